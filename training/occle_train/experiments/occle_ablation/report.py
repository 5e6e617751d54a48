# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""docs/reports/occle_ablation.md out of the ablation's scores: the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from typing import Any

from occle_core.taxonomy import Taxonomy
from occle_train.experiments.occle_ablation.claims import (
    branch_claims,
    disturbed_claims,
    label_claims,
    listed,
    module_claims,
    pairs_of,
    ratio_claims,
)
from occle_train.experiments.occle_ablation.presets import ExperimentPreset
from occle_train.experiments.occle_ablation.settings import (
    ALIGNMENT,
    ALL,
    BASELINE,
    BEYOND,
    EXTREME,
    FULL,
    MODULES,
    MORE_KEYS,
    OCCFUSION,
    PIPELINE,
    PSEUDO_LABELS,
    RATIOS,
    Scores,
    Setting,
)
from occle_train.experiments.occle_ablation.tables import (
    NOT_RUN,
    branch_table,
    class_table,
    disturbed_table,
    extractor_table,
    labels_table,
    latency_table,
    setting_table,
)
from occle_train.experiments.wrap_lines import wrap_lines
from occle_train.occle.self_training import OccleSelfTrainingConfig
from occle_train.pseudo_labels.cell_folder import CellConfig
from occle_train.pseudo_labels.unaligned import CITYSCAPES

WANTED = 0.80
"""Least share of the full annotations' mIoU that a tenth of them is to reach (the paper: 0.816)."""
WANTED_OF_OURS = 0.90
"""The same with our own additions."""
SELF, CELLS = OccleSelfTrainingConfig(), CellConfig()


def write_report(preset: ExperimentPreset, found: Scores, facts: Mapping[str, Any], classes: Taxonomy) -> str:
    """The report.

    Args:
        preset: of the ablation.
        found: scores of every seed; what is missing is said to be.
        facts: date, seeds, device, threads and torch's version.
        classes: the taxonomy.
    """
    train, val = preset.streets["train"], preset.streets["val"]
    recipe, grid, network = preset.recipe, preset.grid, preset.network
    frames = {
        name: streets.drives * len(range(0, len(range(0, streets.frames, streets.every)), recipe.frame_interval))
        for name, streets in preset.streets.items()
    }
    steps = ", ".join(f"{phase} {count}" for phase, count in recipe.phase_steps.items())
    if not steps:
        steps = f"{recipe.epochs} passes of every phase, {recipe.teacher_epochs} of the teacher"
    lacking = ", ".join(f"{name} ({seen or 'unlabelled'})" for name, seen in CITYSCAPES.items())
    drives = f"{train.drives} training drives ({frames['train']} frames), {val.drives} validation drives ({frames['val']} frames)"
    simulated = (
        f"Simulated KITTI-rig streets: {drives} of other streets. Aligned pseudo-labels are the simulator's semantic images, "
        "degraded as foundation models' are (`training/occle_train/pseudo_labels/degrade.py`); the unaligned ones have the same "
        f"mistakes in the classes of a Cityscapes segmenter, which lacks {lacking}."
    )
    return wrap_lines(f"""# What each part of OccLE's recipe is worth

Written by `python -m occle_train.experiments.occle_ablation --preset {preset.name} --seeds {facts["seeds"]}` \
(`make occle-ablation` takes the preset's own seeds) on {facts["date"]}; \
{facts["device"]}, {facts["threads"]} threads, torch {facts["torch"]}.

The paper's figures are of SemanticKITTI's validation set and its authors' network; ours of the data below and of a network \
that fits the hardware above. Figures of the two cannot be compared, orders and ratios can.

**Data.** {facts.get("data") or simulated}

**Training.** {grid.shape[0]} x {grid.shape[1]} x {grid.shape[2]} cells of {grid.resolution:g} m, images of {network.width} x \
{network.height}, {network.num_frames} frames. Steps of {recipe.batch_size} frames: {steps}, the same for every setting; AdamW \
from {recipe.learning_rate:g} along a cosine. {_repeat(preset)} Nothing was chosen by looking at the validation drives. mIoU is \
over the classes that the validation drives hold. a ± b: mean and standard deviation over the seeds; no ±: one seed.

## Semantic branch and alignment (Table 4)

{labels_table(found)}

s: segmentation of the images, over all pixels with a class. S: segmentation of the scan's occupied voxels (the paper does not say \
over which voxels it counts).

{listed(label_claims(found))}

{extractor_table("image", "UNet", found)}

{extractor_table("lidar", "sparse UNet3D of three layers", found)}

All with aligned labels. The light extractors are encoders down to stride 8, as published, of the same decoder; a layer of the \
sparse UNet3D halves the resolution once. Milliseconds as below, with their headers.

## Geometric branch (Table 5)

{branch_table(found)}

The baseline of 3D convolutions and deformable attention: the paper says no more; both grids go through a 3 x 3 x 3 convolution, \
then each cell of the scan's looks at four places a head of the image's. It, the extractors above and the rows of OccFusion, of \
Tables D.3, D.5, D.6 and beyond the paper take `--settings all`, or their keys ({", ".join(MORE_KEYS)}).

{listed(branch_claims(found))}

## Modules (Table 6)

{setting_table(MODULES, found)}

A module is left out by leaving out its supervision: without the semantic branch's there is no phase I and no semantic loss, \
without the geometric branch's no phase II, and the branch learns in phase III. All rows have the same steps in phase III.

{listed(module_claims(found))}

## Annotations (Table 7)

{setting_table(RATIOS, found)}

{listed(ratio_claims(found))}

{setting_table(OCCFUSION, found)}

The baseline with cameras and LiDAR (its IoU in the paper is Table 2's): our branches, without their supervision, and OccFusion's \
dynamic fusion in the place of the Dual Mamba. The paper ran OccFusion's own network, whose extractors and decoder are others: \
compare these rows with "{BASELINE.title}".

| | here | wanted | paper |
|---|---:|---:|---:|
| mIoU, 10 % / all annotations | {_ratio(found, ALL, WANTED)} | >= {WANTED:.2f} | 16.59 / 20.32 = 0.816 |
| the same with voxel pseudo-labels, see below | {_ratio(found, PSEUDO_LABELS, WANTED_OF_OURS)} | >= {WANTED_OF_OURS:.2f} | - |

## Few annotations (Table D.6)

{setting_table(EXTREME, found)}

## Alignment of the pseudo-labels (Table D.3)

{setting_table(ALIGNMENT, found)}

## Pipeline and component (Table D.5)

{setting_table(PIPELINE, found)}

With the teacher, the fusion starts from the geometric branch that was its student's teacher. Weighted, a cell counts in the \
projection by its nearness to the camera, 1 there and 0 at the farthest cell; the paper does not give its weights.

## Beyond the paper

{setting_table(BEYOND, found)}

*Voxel pseudo-labels*: in phase III frames without annotation learn that cells are free where rays of {CELLS.past_scans} scans \
before and {CELLS.future_scans} after the frame passed, and occupied where points lie, of the class that these points' pixels vote \
for. The averaged *teacher* is the running average of the network's own weights. From {100 * SELF.start:g} % of phase III on it \
names cells that these leave open: its class probabilities are calibrated per class on the annotated frames of the last batches \
and fused with the votes, and what is {100 * SELF.least_confidence:g} % sure is learnt.

## Degraded inputs at inference (Table D.4)

{disturbed_table(found)}

{listed(disturbed_claims(found))}

## Latency (Tables 4, 5, D.2)

{latency_table(found)}

Ours: eager PyTorch on the CPU named above, {facts["threads"]} threads, a network of another size. The paper: an A6000 Ada.

## Classes

IoU in percent.

{class_table((ALL, FULL, BASELINE), found, classes)}
""")


def _repeat(preset: ExperimentPreset) -> str:
    if not preset.recipe.min_annotated_fraction:
        return ""
    share = f"{100 * preset.recipe.min_annotated_fraction:g} %"
    return f"So few steps would hardly meet the annotated frames: {share} of the frames of student and fusion are drawn from them."


def _ratio(found: Scores, setting: Setting, wanted: float) -> str:
    pairs = pairs_of(found, "settings", (setting.key, "miou"), (FULL.key, "miou"))
    if not pairs:
        return NOT_RUN
    few, every = (mean(pair[side] for pair in pairs) for side in (0, 1))
    ratio = few / every if every else 0.0
    return f"{few:.2f} / {every:.2f} = {ratio:.3f} ({'met' if ratio >= wanted else 'missed'})"
