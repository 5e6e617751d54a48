# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A page by which a person judges recordings and their pseudo-labels before a training."""
