# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The ROS 2 side: message conversion, bags, replay, recording and the occupancy node. Imports `occle_core` only."""
