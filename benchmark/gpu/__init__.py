# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""All figures of a GPU in one command."""
