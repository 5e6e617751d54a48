"""The network of occle and everything between a Frame and an Occupancy: numpy and torch, no ROS, no training code."""
