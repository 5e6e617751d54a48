# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""ROS bags without ROS: mcap and db3 files, their metadata, reading and writing."""
