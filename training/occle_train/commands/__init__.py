# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Commands of `occle-train`, a file each."""
