# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Pipeline from synchronised messages to an Occupancy, shared by the live node and offline runs."""
