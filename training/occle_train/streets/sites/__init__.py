# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Halls and yards: flat places that a robot drives round, with racks, goods, people and forklifts."""
