"""Pseudo-labels: 2D ones from images, 3D occupancy from several LiDAR scans."""
