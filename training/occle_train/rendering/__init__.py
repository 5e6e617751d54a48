# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Differentiable sphere rendering (MinkOcc, Sec. IV-C)."""
