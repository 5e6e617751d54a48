# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The network of occle and everything between a Frame and an Occupancy: numpy and torch, no ROS, no training code."""

__version__ = "0.1.0"
"""Version of all three packages; setup.py reads it from here, package.xml repeats it."""
