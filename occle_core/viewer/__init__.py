# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Viewing occupancies: sources of frames, a self-contained HTML page, and the rerun viewer. No ROS."""
