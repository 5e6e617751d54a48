# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The typed configuration of the node: groups, presets, parameter files, ROS parameters."""
