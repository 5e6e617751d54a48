# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Data sets on disk as sequences of Frames, with their labels and voxel truths."""

from occle_core.datasets.base import Dataset, DatasetError
from occle_core.datasets.registry import list_scenes, open_dataset

__all__ = ["Dataset", "DatasetError", "list_scenes", "open_dataset"]
