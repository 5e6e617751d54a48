# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Roofline of an engine: its time per operation against this processor's peak."""
