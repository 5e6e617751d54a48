# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Recordings of any rig: bags, and occle sequences."""
