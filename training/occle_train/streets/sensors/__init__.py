"""Simulated sensors and exact voxel truth."""
