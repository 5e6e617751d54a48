# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Training of the networks: data, simulator, losses, metrics, fitting. Imports occle_core only."""
