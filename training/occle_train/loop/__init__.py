# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The training loop: schedule, sampling, checkpoints, processes."""
