# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""docs/reports/occle_ablation.md out of the ablation's scores: the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from occle_core.taxonomy import Taxonomy
from occle_train.evaluation.markdown_tables import markdown
from occle_train.experiments.occle_ablation.claims import Claim, listed
from occle_train.experiments.occle_ablation.presets import ExperimentPreset
from occle_train.experiments.occle_ablation.settings import (
    ALIGNMENT,
    ALL,
    BASELINE,
    BRANCHES,
    DISTURBED,
    EXTREME,
    FEWER,
    FULL,
    LABELS,
    MIDDLE,
    MODULES,
    MORE,
    NO_GEOMETRIC,
    NO_PROJECTION,
    NO_SEMANTIC,
    PAPER_MS,
    PIPELINE,
    PROJECTION,
    RATIOS,
    STUDENT,
    TEACHER,
    TEACHER_FULL,
    WEAK,
    BranchSetting,
    Setting,
)
from occle_train.experiments.wrap_lines import wrap_lines
from occle_train.pseudo_labels.unaligned import CITYSCAPES

NOT_RUN = "not run"
WANTED = 0.80
"""Least share of the full annotations' mIoU that a tenth of them is to reach (the paper: 0.816)."""


@dataclass
class AblationScores:
    """Scores so far, under the keys of the settings."""

    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    branches: dict[str, dict[str, Any]] = field(default_factory=dict)
    labels: dict[str, dict[str, Any]] = field(default_factory=dict)
    disturbed: dict[str, dict[str, Any]] = field(default_factory=dict)
    latency: dict[str, Any] = field(default_factory=dict)


def write_report(preset: ExperimentPreset, found: AblationScores, facts: Mapping[str, Any], classes: Taxonomy) -> str:
    """The report.

    Args:
        preset: of the ablation.
        found: scores; what is missing is said to be.
        facts: date, device, threads and torch's version.
        classes: the taxonomy.
    """
    train, val = preset.streets["train"], preset.streets["val"]
    recipe, grid, network = preset.recipe, preset.grid, preset.network
    frames = {
        name: streets.drives * len(range(0, len(range(0, streets.frames, streets.every)), recipe.frame_interval))
        for name, streets in preset.streets.items()
    }
    steps = ", ".join(f"{phase} {count}" for phase, count in recipe.phase_steps.items())
    lacking = ", ".join(f"{name} ({seen or 'unlabelled'})" for name, seen in CITYSCAPES.items())
    drives = f"{train.drives} training drives ({frames['train']} frames), {val.drives} validation drives ({frames['val']} frames)"
    simulated = (
        f"Simulated KITTI-rig streets: {drives} of other streets. Aligned pseudo-labels are the simulator's semantic images, "
        "degraded as foundation models' are (`training/occle_train/pseudo_labels/degrade.py`); the unaligned ones have the same "
        f"mistakes in the classes of a Cityscapes segmenter, which lacks {lacking}."
    )
    return wrap_lines(f"""# What each part of OccLE's recipe is worth

Written by `python -m occle_train.experiments.occle_ablation --preset {preset.name}` (`make occle-ablation`) on {facts["date"]}; \
{facts["device"]}, {facts["threads"]} threads, torch {facts["torch"]}.

The paper's figures are of SemanticKITTI's validation set and its authors' network; ours of the data below and of a network \
that fits the hardware above. Figures of the two cannot be compared, orders and ratios can.

**Data.** {facts.get("data") or simulated}

**Training.** {grid.shape[0]} x {grid.shape[1]} x {grid.shape[2]} cells of {grid.resolution:g} m, images of {network.width} x \
{network.height}, {network.num_frames} frames. Steps of {recipe.batch_size} frames: {steps}, the same for every setting; AdamW \
from {recipe.learning_rate:g} along a cosine. {_repeat(preset)} Nothing was chosen by looking at the validation drives. mIoU is \
over the classes that the validation drives hold.

## Semantic branch and alignment (Table 4)

{_labels_table(found)}

s: segmentation of the images, over all pixels with a class. S: segmentation of the scan's occupied voxels (the paper does not say \
over which voxels it counts). The paper's other extractors (ESPNetv2, MobileNet, UNets of one and two layers) were not built.

{listed(_label_claims(found))}

## Geometric branch (Table 5)

{_branch_table(found)}

The paper's baseline with 3D convolutions and deformable attention (52.79, 138.62 ms) was not built.

{listed(_branch_claims(found))}

## Modules (Table 6)

{_setting_table(MODULES, found)}

A module is left out by leaving out its supervision: without the semantic branch's there is no phase I and no semantic loss, \
without the geometric branch's no phase II, and the branch learns in phase III. All rows have the same steps in phase III.

{listed(_module_claims(found))}

## Annotations (Table 7)

{_setting_table(RATIOS, found)}

{listed(_ratio_claims(found))}

| | here | wanted | paper |
|---|---:|---:|---:|
| mIoU, 10 % / all annotations | {_ratio(found)} | >= {WANTED:.2f} | 16.59 / 20.32 = 0.816 |

## Few annotations (Table D.6)

{_setting_table(EXTREME, found)}

## Alignment of the pseudo-labels (Table D.3)

{_setting_table(ALIGNMENT, found)}

## Pipeline and component (Table D.5)

{_setting_table(PIPELINE, found)}

With the teacher, the fusion starts from the geometric branch that was its student's teacher. Weighted, a cell counts in the \
projection by its nearness to the camera, 1 there and 0 at the farthest cell; the paper does not give its weights. The rows of \
the last three tables take `--settings all`.

## Degraded inputs at inference (Table D.4)

{_disturbed_table(found)}

{listed(_disturbed_claims(found))}

## Latency (Tables 4, 5, D.2)

{_latency_table(found)}

Ours: eager PyTorch on the CPU named above, {facts["threads"]} threads, a network of another size. The paper: an A6000 Ada.

## Classes

IoU in percent.

{_class_table((ALL, FULL, BASELINE), found, classes)}
""")


def _repeat(preset: ExperimentPreset) -> str:
    if not preset.recipe.min_annotated_fraction:
        return ""
    share = f"{100 * preset.recipe.min_annotated_fraction:g} %"
    return f"So few steps would hardly meet the annotated frames: {share} of the frames of student and fusion are drawn from them."


def _labels_table(found: AblationScores) -> str:
    lines = []
    for key, (title, image, lidar) in LABELS.items():
        ours = found.labels.get(key, {})
        lines.append([title, _of(ours, "image"), f"{image:.2f}", _of(ours, "lidar"), f"{lidar:.2f}"])
    return markdown(["pseudo-labels", "mIoU(s)", "paper", "mIoU(S)", "paper"], lines)


def _branch_table(found: AblationScores) -> str:
    lines = [
        [
            branch.title,
            f"{100 * branch.share:g}",
            _of(found.branches.get(branch.key, {}), "iou"),
            f"{branch.paper:.2f}",
        ]
        for branch in BRANCHES
    ]
    return markdown(["model, augmentation", "annotations, %", "IoU", "paper"], lines)


def _setting_table(settings: Sequence[Setting], found: AblationScores) -> str:
    lines = []
    for setting in settings:
        ours, (miou, iou) = found.settings.get(setting.key, {}), setting.paper
        share = "0" if "annotations" in setting.without else f"{100 * setting.share:g}"
        lines.append([setting.title, share, _of(ours, "miou"), f"{miou:.2f}", _of(ours, "iou"), _number(iou)])
    return markdown(["setting", "annotations, %", "mIoU", "paper", "IoU", "paper"], lines)


def _disturbed_table(found: AblationScores) -> str:
    lines = []
    for key, (title, iou, miou) in DISTURBED.items():
        ours = found.disturbed.get(key, {})
        lines.append([title, _of(ours, "iou"), f"{iou:.2f}", _of(ours, "miou"), f"{miou:.2f}"])
    return markdown(["input", "IoU (geometric)", "paper", "mIoU (fusion)", "paper"], lines)


def _latency_table(found: AblationScores) -> str:
    titles = {
        "image": "2D extractor with header",
        "lidar": "3D extractor with header",
        "geometric": "geometric branch with header",
        "network": "whole network",
    }
    lines = [
        [title, f"{found.latency[key]:.1f}" if key in found.latency else NOT_RUN, f"{PAPER_MS[key]:.2f}"]
        for key, title in titles.items()
    ]
    return markdown(["part", "ms", "paper, ms"], lines)


def _class_table(settings: Sequence[Setting], found: AblationScores, classes: Taxonomy) -> str:
    ran = [(setting, found.settings[setting.key]) for setting in settings if setting.key in found.settings]
    lines = [
        [classes.names[number + 1], *(f"{100 * scores['per_class'][number]:.2f}" for _, scores in ran)]
        for number in range(classes.num_classes - 1)
    ]
    return markdown(["class", *(setting.title for setting, _ in ran)], lines)


def _label_claims(found: AblationScores) -> list[Claim]:
    reason = "Here alignment concerns classes that are rare in the drives or, in images this small, a few pixels wide."
    names = {"image": ("image", 1), "lidar": ("scan", 2)}
    return [
        Claim(
            f"the {name} segmentation with aligned labels",
            "that without alignment",
            (LABELS["aligned"][column], LABELS["unaligned"][column]),  # type: ignore[arg-type]
            _pair(found.labels, ("aligned", key), ("unaligned", key)),
            reason,
        )
        for key, (name, column) in names.items()
    ]


def _branch_claims(found: AblationScores) -> list[Claim]:
    def claim(better: BranchSetting, worse: BranchSetting, reason: str) -> Claim:
        ours = _pair(found.branches, (better.key, "iou"), (worse.key, "iou"))
        return Claim(f"the {better.title}", f"the {worse.title}", (better.paper, worse.paper), ours, reason)

    short = "The student starts afresh and has a few hundred steps here; the paper gives it 40 passes."
    return [
        claim(TEACHER_FULL, STUDENT, ""),
        claim(STUDENT, TEACHER, short),
        claim(WEAK, TEACHER, short),
        claim(MIDDLE, WEAK, "The paper's own difference is 0.02 points."),
        claim(STUDENT, MIDDLE, "The paper's own difference is 0.72 points; stronger augmentation needs longer training."),
    ]


def _module_claims(found: AblationScores) -> list[Claim]:
    reasons = {
        NO_PROJECTION.key: "The same pseudo-labels supervise the semantic branch, so little is left for the projection to add.",
        NO_GEOMETRIC.key: "Without phase II the branch is free to learn in phase III, from annotations that it sees often.",
    }
    other = (BASELINE, PROJECTION, NO_GEOMETRIC, NO_SEMANTIC, NO_PROJECTION)
    return [
        Claim(
            f"{FULL.title} (mIoU)",
            ALL.title,
            (FULL.paper[0], ALL.paper[0]),
            _pair(found.settings, (FULL.key, "miou"), (ALL.key, "miou")),
        ),
        *(
            Claim(
                f"{ALL.title} ({name})",
                f'"{setting.title}"',
                (ALL.paper[column], setting.paper[column]),
                _pair(found.settings, (ALL.key, key), (setting.key, key)),
                reasons.get(setting.key, ""),
            )
            for column, (key, name) in enumerate({"miou": "mIoU", "iou": "IoU"}.items())
            for setting in other
        ),
    ]


def _ratio_claims(found: AblationScores) -> list[Claim]:
    return [
        Claim(
            f"{100 * more.share:g} % of the annotations",
            f"{100 * fewer.share:g} %",
            (more.paper[0], fewer.paper[0]),
            _pair(found.settings, (more.key, "miou"), (fewer.key, "miou")),
            "The validation drives are few: differences of a point are within their noise.",
        )
        for more, fewer in ((ALL, FEWER), (MORE, ALL), (FULL, MORE))
    ]


def _disturbed_claims(found: AblationScores) -> list[Claim]:
    def claim(better: str, worse: str, key: str, column: int) -> Claim:
        paper = (float(DISTURBED[better][column]), float(DISTURBED[worse][column]))
        ours = _pair(found.disturbed, (better, key), (worse, key))
        name = {"iou": "geometric branch's IoU", "miou": "mIoU of the fusion"}[key]
        titles = (f'the {name} with "{DISTURBED[better][0]}"', f'that with "{DISTURBED[worse][0]}"')
        return Claim(*titles, paper, ours, "Which sensor a branch leans on differs between the networks.")

    columns = {"iou": 1, "miou": 2}
    harmful = [claim("baseline", worse, key, column) for key, column in columns.items() for worse in ("image", "points")]
    return [*harmful, claim("points", "image", "miou", 2), claim("image", "points", "iou", 1)]


def _pair(scores: Mapping[str, dict[str, Any]], one: tuple[str, str], other: tuple[str, str]) -> tuple[float, float] | None:
    if one[0] not in scores or other[0] not in scores:
        return None
    return 100 * float(scores[one[0]][one[1]]), 100 * float(scores[other[0]][other[1]])


def _ratio(found: AblationScores) -> str:
    pair = _pair(found.settings, (ALL.key, "miou"), (FULL.key, "miou"))
    if pair is None:
        return NOT_RUN
    ratio = pair[0] / pair[1] if pair[1] else 0.0
    return f"{pair[0]:.2f} / {pair[1]:.2f} = {ratio:.3f} ({'met' if ratio >= WANTED else 'missed'})"


def _of(scores: Mapping[str, Any], key: str) -> str:
    return f"{100 * scores[key]:.2f}" if key in scores else NOT_RUN


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"
