"""Rigid transforms, cameras, voxel grids, ray casting."""
