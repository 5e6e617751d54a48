# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The topics that the node reads and writes, and their QoS."""
