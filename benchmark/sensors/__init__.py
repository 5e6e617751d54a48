# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What a processor does for scans and images before a network sees them."""
