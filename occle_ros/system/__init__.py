# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Processes, signals, environment and shipped files."""
