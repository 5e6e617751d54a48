"""Labels that no person made: 2D ones from images, 3D occupancy from several LiDAR scans."""
