"""OccLE: a semantic and a geometric branch on dense grids, fused by Dual Mamba."""
