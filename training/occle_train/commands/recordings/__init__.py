# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Commands for recordings without labels."""
