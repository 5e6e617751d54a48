# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The networks, and the protocol that all of them answer."""
