# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Training samples: frames, truth, augmentation, labelled subsets."""
