# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Streets, halls and yards as a drive meets them: what stands, what moves, the light, and the way through."""
