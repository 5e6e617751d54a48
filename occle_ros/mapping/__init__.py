# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The rolling map in the live node."""
