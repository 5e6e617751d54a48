# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Costs of training at scale, and quality of labels that no person made."""
