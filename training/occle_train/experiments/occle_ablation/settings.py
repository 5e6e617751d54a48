# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The rows of the paper's tables: what is left out, with which labels and annotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from occle_core.networks.occle.config import OccleConfig
from occle_train.occle.phases import Module, OccleRecipeConfig
from occle_train.occle.self_training import OccleSelfTrainingConfig
from occle_train.pseudo_labels.cell_folder import CellConfig

SHARE = 0.1
"""Annotated frames where a table does not say otherwise."""


def papers_recipe(preset: OccleRecipeConfig, share: float) -> OccleRecipeConfig:
    """The preset's recipe with a share of annotated frames, all of the paper's supervision and nothing beyond it."""
    values = {"annotated_fraction": share, "ablate": (), "weighted_projection": False}
    return preset.model_copy(update=values | {"voxel_pseudo_labels": None, "self_training": None})


@dataclass(frozen=True)
class Setting:
    """A trained whole network: a row of Table 6 or a column of Table 7.

    Args:
        key: folder name.
        title: what people read.
        share: annotated frames.
        without: modules whose supervision is left out.
        labels: kind of the pseudo-labels: aligned, unaligned, noise-2 or noise-6.
        from_teacher: whether the fusion starts from the geometric branch's teacher instead of its student.
        weighted: whether the projection weighs cells by their distance from the camera.
        voxel_pseudo_labels: whether phase III has 3D pseudo-labels (`OccleRecipeConfig.voxel_pseudo_labels`).
        self_training: whether an averaged teacher joins them.
        occfusion: OccFusion's fusion in the place of the Dual Mamba.
        paper: mIoU and IoU, percent; NaN where the paper gives none.
    """

    key: str
    title: str
    paper: tuple[float, float]
    share: float = SHARE
    without: tuple[Module, ...] = ()
    labels: str = "aligned"
    from_teacher: bool = False
    weighted: bool = False
    voxel_pseudo_labels: bool = False
    self_training: bool = False
    occfusion: bool = False

    def recipe(self, preset: OccleRecipeConfig) -> OccleRecipeConfig:
        """The preset's recipe with this row's annotations, supervision and 3D pseudo-labels."""
        values = {
            "ablate": self.without,
            "weighted_projection": self.weighted,
            "voxel_pseudo_labels": CellConfig() if self.voxel_pseudo_labels else None,
            "self_training": OccleSelfTrainingConfig() if self.self_training else None,
        }
        return papers_recipe(preset, self.share).model_copy(update=values)

    def network(self, config: OccleConfig) -> OccleConfig:
        """The preset's network with this fusion."""
        if not self.occfusion:
            return config
        return config.model_copy(update={"fusion": config.fusion.model_copy(update={"instead": "occfusion"})})


@dataclass(frozen=True)
class BranchSetting:
    """A trained geometric branch: a row of Table 5.

    Args:
        key: folder name.
        title: what people read.
        paper: IoU, percent.
        share: annotated frames.
        student: whether it learned from a teacher.
        middle, strong: degrees of the student's augmentation.
        deformable: 3D convolutions and deformable attention in the place of the planes.
    """

    key: str
    title: str
    paper: float
    share: float = SHARE
    student: bool = True
    middle: bool = True
    strong: bool = True
    deformable: bool = False

    def network(self, config: OccleConfig) -> OccleConfig:
        """The preset's network with this branch."""
        if not self.deformable:
            return config
        return config.model_copy(update={"geometric": config.geometric.model_copy(update={"synergy": "deformable"})})


Part = Literal["image", "lidar"]


@dataclass(frozen=True)
class Extractor:
    """Another extractor of the semantic branch: a row of Table 4.

    Args:
        key: folder name, after "semantic-".
        title: what people read.
        part: whose features it makes.
        paper: mIoU(s) of an image's, mIoU(S) of a scan's, percent.
        paper_ms: milliseconds.
        layers: of the sparse UNet3D.
    """

    key: str
    title: str
    part: Part
    paper: float
    paper_ms: float
    layers: int = 3

    def network(self, config: OccleConfig) -> OccleConfig:
        """The preset's network with this extractor; in the paper's size MobileNet and ESPNetv2 have their published channels."""
        semantic, channels = config.semantic, config.semantic.image_channels
        if self.part == "lidar":
            values: dict[str, Any] = {"lidar_channels": semantic.lidar_channels[: self.layers + 1]}
        elif self.key == "mobilenet":
            values = {"image_extractor": "mobilenet", "image_channels": tuple(2 * count for count in channels)}
        else:
            fine = max(16, channels[0] // 16 * 16)
            values = {"image_extractor": "espnetv2", "image_channels": (fine, 2 * fine, 4 * fine)}
        return config.model_copy(update={"semantic": semantic.model_copy(update=values)})


@dataclass
class AblationScores:
    """Scores so far, under the keys of the rows."""

    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    branches: dict[str, dict[str, Any]] = field(default_factory=dict)
    labels: dict[str, dict[str, Any]] = field(default_factory=dict)
    extractors: dict[str, dict[str, Any]] = field(default_factory=dict)
    disturbed: dict[str, dict[str, Any]] = field(default_factory=dict)
    latency: dict[str, Any] = field(default_factory=dict)


Scores = Sequence[AblationScores]
"""Scores of every seed."""
Table = Literal["settings", "branches", "labels", "extractors", "disturbed"]


def rows_of(found: Scores, table: Table, key: str) -> list[dict[str, Any]]:
    """A row of every seed that has it."""
    return [rows[key] for scores in found if key in (rows := getattr(scores, table))]


ALL = Setting("all", "all modules", (16.59, 40.60))
FULL = Setting("full", "all modules, all annotations", (20.32, 51.73), share=1.0)
BASELINE = Setting("baseline", "baseline: voxel annotations alone", (9.64, 22.30), without=("semantic", "geometric", "projection"))
PROJECTION = Setting("projection", "projection alone", (0.37, 7.84), without=("semantic", "geometric", "annotations"))
NO_GEOMETRIC = Setting("no-geometric", "without the geometric branch's supervision", (11.84, 27.46), without=("geometric",))
NO_SEMANTIC = Setting("no-semantic", "without the semantic branch's supervision", (8.08, 17.52), without=("semantic",))
NO_PROJECTION = Setting("no-projection", "without the projection", (11.55, 18.52), without=("projection",))
FEWER = Setting("share-5", "5 % of the annotations", (13.11, float("nan")), share=0.05)
MORE = Setting("share-15", "15 % of the annotations", (18.40, float("nan")), share=0.15)

UNALIGNED = Setting("unaligned", "without alignment", (15.80, float("nan")), labels="unaligned")
NOISE_2 = Setting("noise-2", "2 % of the pixels wrong", (16.01, float("nan")), labels="noise-2")
NOISE_6 = Setting("noise-6", "6 % of the pixels wrong", (15.37, float("nan")), labels="noise-6")
WITH_TEACHER = Setting("from-teacher", "with the geometric teacher", (16.17, 38.86), from_teacher=True)
WEIGHTED = Setting("weighted", "projection weighted by distance", (13.38, 40.40), weighted=True)
TWO_PERCENT = Setting("share-2", "2 % of the annotations", (10.97, 21.11), share=0.02)
ONE_PERCENT = Setting("share-1", "1 % of the annotations", (9.70, 18.15), share=0.01)
PSEUDO_LABELS = Setting("pseudo-labels", "all modules, voxel pseudo-labels", (float("nan"),) * 2, voxel_pseudo_labels=True)
SELF_TRAINING = Setting(
    "self-training", "the same and an averaged teacher", (float("nan"),) * 2, voxel_pseudo_labels=True, self_training=True
)

OCCFUSION = tuple(
    Setting(
        f"occfusion-{100 * share:g}", "OccFusion's fusion, voxel annotations alone", paper, share, BASELINE.without, occfusion=True
    )
    for share, paper in (
        (0.05, (5.16, float("nan"))),
        (SHARE, (6.03, 30.36)),
        (0.15, (6.29, float("nan"))),
        (1.0, (21.92, 58.68)),
    )
)
"""Table 7's baseline; its IoU is Table 2's."""

ALIGNMENT = (ALL, UNALIGNED, NOISE_2, NOISE_6)
"""Table D.3."""
PIPELINE = (WITH_TEACHER, WEIGHTED, ALL)
"""Table D.5."""
EXTREME = (TWO_PERCENT, ONE_PERCENT)
"""Table D.6."""
BEYOND = (ALL, PSEUDO_LABELS, SELF_TRAINING)
"""What is not the paper's, beside what is."""
MODULES = (FULL, BASELINE, PROJECTION, NO_GEOMETRIC, NO_SEMANTIC, NO_PROJECTION, ALL)
"""Table 6."""
RATIOS = (FEWER, ALL, MORE, FULL)
"""Table 7."""
SETTINGS = (ALL, FULL, BASELINE, PSEUDO_LABELS, NO_GEOMETRIC, NO_SEMANTIC, NO_PROJECTION, PROJECTION, FEWER, MORE)
"""The main tables' and our best, in the order in which they are trained."""
MORE_SETTINGS = (UNALIGNED, NOISE_2, NOISE_6, WITH_TEACHER, WEIGHTED, TWO_PERCENT, ONE_PERCENT, *OCCFUSION, SELF_TRAINING)
"""The appendix's, Table 7's baseline and ours, on request."""

TEACHER_FULL = BranchSetting("teacher-100", "teacher, all annotations", 56.77, share=1.0, student=False)
TEACHER = BranchSetting("teacher-10", "teacher, weak", 52.66, student=False)
WEAK = BranchSetting("student-10-weak", "student, weak", 52.86, middle=False, strong=False)
MIDDLE = BranchSetting("student-10-middle", "student, weak and middle", 52.88, strong=False)
STUDENT = BranchSetting("student-10", "student, weak, middle and strong", 53.60)

BRANCHES = (TEACHER_FULL, TEACHER, WEAK, MIDDLE, STUDENT)
"""Table 5, but for its baseline."""
CONV3D = BranchSetting("conv3d", "3D convolutions and deformable attention, weak", 52.79, student=False, deformable=True)
"""Table 5's baseline, on request."""

EXTRACTORS = (
    Extractor("espnetv2", "ESPNetv2", "image", 28.71, 4.38),
    Extractor("mobilenet", "MobileNet", "image", 48.76, 6.10),
    Extractor("unet3d-1", "sparse UNet3D of one layer", "lidar", 12.38, 41.77, layers=1),
    Extractor("unet3d-2", "sparse UNet3D of two layers", "lidar", 13.30, 43.22, layers=2),
)
"""Table 4's other extractors, on request."""
MORE_KEYS = (*(setting.key for setting in MORE_SETTINGS), CONV3D.key, *(extractor.key for extractor in EXTRACTORS))
"""What is trained on request."""

LABELS: dict[str, tuple[str, dict[Part, float]]] = {
    "unaligned": ("without alignment", {"image": 41.89, "lidar": 9.89}),
    "aligned": ("with alignment", {"image": 51.51, "lidar": 13.94}),
}
"""Table 4: title, mIoU of the images' and of the scan's segmentation, percent."""

DISTURBED = {"baseline": ("as recorded", 53.60, 16.59), "image": ("image degraded", 52.88, 14.49)} | {
    "points": ("points dropped", 52.87, 15.95),
    "both": ("both", 52.79, 14.1),
}
"""Table D.4: title, IoU of the geometric branch and mIoU of the fusion, percent."""

PAPER_MS = {"image": 6.87, "lidar": 44.59, "geometric": 26.08, "conv3d": 138.62, "network": 179.5}
"""Tables 4, 5 and D.2: milliseconds on an A6000 Ada."""


def branch_of(setting: Setting) -> BranchSetting | None:
    """The geometric branch that a setting's fusion starts from; None where it learns in the fusion alone."""
    if "geometric" in setting.without:
        return None
    if setting.from_teacher:
        return TEACHER
    return (
        STUDENT
        if setting.share == SHARE
        else BranchSetting(f"student-{100 * setting.share:g}", "", float("nan"), share=setting.share)
    )
