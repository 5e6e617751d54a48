# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Layout and contents of a street."""
