"""The rows of the paper's tables: what is left out, with which labels and annotations."""

from __future__ import annotations

from dataclasses import dataclass

from occle_train.occle.phases import Module, OccleRecipeConfig

SHARE = 0.1
"""Annotated frames where a table does not say otherwise."""


@dataclass(frozen=True)
class Setting:
    """A trained whole network: a row of Table 6 or a column of Table 7.

    Args:
        key: folder name.
        title: what people read.
        share: annotated frames.
        without: modules whose supervision is left out.
        paper: mIoU and IoU, percent; the IoU is NaN where the paper gives none.
    """

    key: str
    title: str
    paper: tuple[float, float]
    share: float = SHARE
    without: tuple[Module, ...] = ()


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
    """

    key: str
    title: str
    paper: float
    share: float = SHARE
    student: bool = True
    middle: bool = True
    strong: bool = True


ALL = Setting("all", "all modules", (16.59, 40.60))
FULL = Setting("full", "all modules, all annotations", (20.32, 51.73), share=1.0)
BASELINE = Setting("baseline", "baseline: voxel annotations alone", (9.64, 22.30), without=("semantic", "geometric", "projection"))
PROJECTION = Setting("projection", "projection alone", (0.37, 7.84), without=("semantic", "geometric", "annotations"))
NO_GEOMETRIC = Setting("no-geometric", "without the geometric branch's supervision", (11.84, 27.46), without=("geometric",))
NO_SEMANTIC = Setting("no-semantic", "without the semantic branch's supervision", (8.08, 17.52), without=("semantic",))
NO_PROJECTION = Setting("no-projection", "without the projection", (11.55, 18.52), without=("projection",))
FEWER = Setting("share-5", "5 % of the annotations", (13.11, float("nan")), share=0.05)
MORE = Setting("share-15", "15 % of the annotations", (18.40, float("nan")), share=0.15)

MODULES = (FULL, BASELINE, PROJECTION, NO_GEOMETRIC, NO_SEMANTIC, NO_PROJECTION, ALL)
"""Table 6."""
RATIOS = (FEWER, ALL, MORE, FULL)
"""Table 7."""
SETTINGS = (ALL, FULL, BASELINE, NO_GEOMETRIC, NO_SEMANTIC, NO_PROJECTION, PROJECTION, FEWER, MORE)
"""In the order in which they are trained."""

TEACHER_FULL = BranchSetting("teacher-100", "teacher, all annotations", 56.77, share=1.0, student=False)
TEACHER = BranchSetting("teacher-10", "teacher, weak", 52.66, student=False)
WEAK = BranchSetting("student-10-weak", "student, weak", 52.86, middle=False, strong=False)
MIDDLE = BranchSetting("student-10-middle", "student, weak and middle", 52.88, strong=False)
STUDENT = BranchSetting("student-10", "student, weak, middle and strong", 53.60)

BRANCHES = (TEACHER_FULL, TEACHER, WEAK, MIDDLE, STUDENT)
"""Table 5."""

LABELS = {"unaligned": ("without alignment", 41.89, 9.89), "aligned": ("with alignment", 51.51, 13.94)}
"""Table 4: title, mIoU of the images' and of the scan's segmentation, percent."""

DISTURBED = {"baseline": ("as recorded", 53.60, 16.59), "image": ("image degraded", 52.88, 14.49)} | {
    "points": ("points dropped", 52.87, 15.95),
    "both": ("both", 52.79, 14.1),
}
"""Table D.4: title, IoU of the geometric branch and mIoU of the fusion, percent."""

PAPER_MS = {"image": 6.87, "lidar": 44.59, "geometric": 26.08, "network": 179.5}
"""Tables 4, 5 and D.2: milliseconds on an A6000 Ada."""


def branch_of(setting: Setting) -> BranchSetting | None:
    """The geometric branch that a setting's fusion starts from; None where it learns in the fusion alone."""
    if "geometric" in setting.without:
        return None
    return (
        STUDENT
        if setting.share == SHARE
        else BranchSetting(f"student-{100 * setting.share:g}", "", float("nan"), share=setting.share)
    )


def config_of(recipe: OccleRecipeConfig, share: float, without: tuple[Module, ...] = ()) -> OccleRecipeConfig:
    """The recipe of a setting."""
    return recipe.model_copy(update={"annotated_fraction": share, "ablate": without})
