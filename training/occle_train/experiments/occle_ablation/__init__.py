# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`python -m occle_train.experiments.occle_ablation`: what each part of OccLE's recipe is worth, on simulated KITTI-rig streets."""
