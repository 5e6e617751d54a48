# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Sparse convolutions against spconv, MinkowskiEngine and a dense conv3d."""
