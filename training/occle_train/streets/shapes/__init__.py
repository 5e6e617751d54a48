# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Meshes of what stands in a street, and their materials."""
