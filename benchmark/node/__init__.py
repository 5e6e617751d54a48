# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The live node: latency, rate, long runs, and what its transport costs."""
