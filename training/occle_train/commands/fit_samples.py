# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The frames of `occle-train fit`: to train on, to measure the free class's bias on, and to score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from occle_core import taxonomy
from occle_core.bundle import BundleSpec
from occle_train.commands import training
from occle_train.commands.common import console
from occle_train.data.samples import Samples
from occle_train.loop.workers import cache_size
from occle_train.minkocc.config import FitConfig
from occle_train.minkocc.fit import minkocc_config
from occle_train.minkocc.image_head import label_size
from occle_train.minkocc.pixel_labels import PixelLabels
from occle_train.minkocc.recipe import RecipeSamples
from occle_train.pseudo_labels.label_folder import LabelFolder
from occle_train.runs.finish import CHECKED_FRAMES
from occle_train.runs.validation import Slice, slice_of


def training_samples(run: training.Run, settings: FitConfig, spec: BundleSpec, datasets: Sequence[Any], device: str) -> Samples:
    """The training's frames and, where the configuration asks for them, the labels of their images' pixels."""
    sizes, memory = minkocc_config(spec), cache_size(settings.num_workers, device, run.options.processes or 1)
    folder = LabelFolder(run.options.labels, taxonomy.load(spec.taxonomy)) if run.options.labels else None
    samples: Samples
    if settings.recipe is None:
        samples = Samples(datasets, spec.voxel_grid, sizes, memory, settings.truth_mask)
        if settings.losses.image_semantics:
            samples.labels = folder
    else:
        cache = run.options.targets or run.folder / "accumulated"
        samples = RecipeSamples(datasets, spec.voxel_grid, sizes, settings.recipe, folder, cache, memory, settings.truth_mask)
    if settings.losses.image_semantics:
        # A class list of one's own gives the ids of simulated images another meaning.
        pixels = PixelLabels(folder, isinstance(spec.taxonomy, str))
        if pixels.any(datasets):
            samples.read_pixels(pixels, label_size(sizes.image), pixels.source)
        else:
            console.print(
                f"losses.image_semantics is left out: no image of {run.data_text} has class labels; occle-train label makes some "
                "for --labels",
                soft_wrap=True,
            )
    return samples


def bias_samples(settings: FitConfig, spec: BundleSpec, samples: Samples, part: Slice | None) -> Samples:
    """The frames that the free class's bias is measured on.

    Raises:
        ValueError: they are to be those of a validation, and there is none.
    """
    if not settings.free_bias or settings.free_bias_frames == "training":
        return samples
    if part is None:
        raise ValueError("free_bias_frames: validation needs --validation DATASET, or free_bias_frames: training")
    return Samples(part.datasets, spec.voxel_grid, minkocc_config(spec), 0.0, settings.truth_mask)


def training_slice(samples: Samples, run: training.Run) -> Slice | None:
    """Some of the training frames with voxel labels, to be scored where there is no validation; None where none has any."""
    numbers = sorted({samples.index[item][0] for item in samples.labelled()})
    datasets = [samples.datasets[number] for number in numbers]
    return slice_of(datasets, CHECKED_FRAMES, run.data_text) if datasets else None
