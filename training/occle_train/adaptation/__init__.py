# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Adaptation of a trained network to recordings without labels: an averaged teacher, votes over frames, and ray evidence."""
