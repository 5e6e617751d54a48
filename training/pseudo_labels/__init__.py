"""Labels that no person made: 2D ones from images, 3D occupancy from past LiDAR scans."""
