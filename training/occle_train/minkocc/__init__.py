# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""MinkOcc's training recipe."""
