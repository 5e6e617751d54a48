# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Evaluation of bundles, export with its parity gate, and tables."""
