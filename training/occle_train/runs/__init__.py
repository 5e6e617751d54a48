# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Run folders: what a training writes, from its options to its report."""
