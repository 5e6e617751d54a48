# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Rigid transforms, cameras, voxel grids, ray casting."""
