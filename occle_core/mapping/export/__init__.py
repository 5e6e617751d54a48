# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Exports of the map: nav2 map files, OctoMap, PLY."""
