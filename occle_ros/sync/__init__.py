# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Synchronisation of scans and images."""
