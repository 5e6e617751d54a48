# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Experiments of the papers, in presets from a laptop to a GPU."""
