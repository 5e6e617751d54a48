"""MinkOcc: early fusion of images into LiDAR voxels and generative sparse completion."""
