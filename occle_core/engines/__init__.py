# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Engines: the network in forms that run fast on a machine, one file each; `loading.load` makes one by its name."""
