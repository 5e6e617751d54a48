# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""OccLE: a semantic and a geometric branch on dense grids, fused by Dual Mamba."""
