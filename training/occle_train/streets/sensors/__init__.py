# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Simulated sensors and exact voxel truth."""
