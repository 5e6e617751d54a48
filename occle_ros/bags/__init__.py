# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Bags and data sets as messages: converter, player, recorder, reader of synchronised messages."""
