# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""NVIDIA GPUs: what their engines require, and copies to and from them."""
