# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Builders of ROS messages."""
