# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A rig file from a recording: what the bag says and shows of its sensors, and a check of given extrinsics."""
