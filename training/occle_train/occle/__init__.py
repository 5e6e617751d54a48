# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""OccLE's recipe (Fang et al., Algorithm 1): aligned pseudo-labels, augmentation, teacher and student, phases."""
