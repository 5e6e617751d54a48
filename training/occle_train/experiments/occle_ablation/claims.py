# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Claims of the paper's tables as comparisons that can be checked against our figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from occle_train.experiments.occle_ablation.settings import (
    ALL,
    BASELINE,
    DISTURBED,
    FEWER,
    FULL,
    LABELS,
    MIDDLE,
    MORE,
    NO_GEOMETRIC,
    NO_PROJECTION,
    NO_SEMANTIC,
    PROJECTION,
    STUDENT,
    TEACHER,
    TEACHER_FULL,
    WEAK,
    BranchSetting,
    Part,
    Scores,
    Table,
)


@dataclass(frozen=True)
class Claim:
    """The paper finds that one value is larger than another.

    Args:
        better, worse: what is compared, in words.
        paper: both values, percent.
        ours: both values, percent, of every seed; none where one was not measured.
        reason: a likely cause where ours disagree.
    """

    better: str
    worse: str
    paper: tuple[float, float]
    ours: Sequence[tuple[float, float]]
    reason: str = ""

    @property
    def holds(self) -> bool | None:
        """True if the means of our figures agree; None where that is not known."""
        return self.means[0] > self.means[1] if self.ours else None

    @property
    def means(self) -> tuple[float, float]:
        """Both values, percent, over the seeds; there must be one."""
        return mean(pair[0] for pair in self.ours), mean(pair[1] for pair in self.ours)

    def sentence(self) -> str:
        """One sentence about a disagreement, or about agreement."""
        if not self.ours:
            return f"{self.better} against {self.worse}: not run."
        ours, paper = (f"{a:.2f} against {b:.2f}" for a, b in (self.means, self.paper))
        if len(self.ours) > 1:
            ours += f" (larger with {sum(a > b for a, b in self.ours)} of {len(self.ours)} seeds)"
        if self.holds:
            return f"As in the paper, {self.better} beats {self.worse}: {ours} here, {paper} there."
        reason = f" A possible cause: {self.reason[0].lower()}{self.reason[1:]}" if self.reason else ""
        return f"**Unlike the paper**, {self.better} does not beat {self.worse}: {ours} here, {paper} there.{reason}"


def listed(claims: Sequence[Claim]) -> str:
    """The claims' sentences as a list."""
    return "\n".join(f"- {claim.sentence()}" for claim in claims)


def label_claims(found: Scores) -> list[Claim]:
    """What alignment is worth (Table 4)."""
    reason = "Here alignment concerns classes that are rare in the drives or, in images this small, a few pixels wide."
    names: dict[Part, str] = {"image": "image", "lidar": "scan"}
    aligned, unaligned = LABELS["aligned"][1], LABELS["unaligned"][1]
    return [
        Claim(
            f"the {name} segmentation with aligned labels",
            "that without alignment",
            (aligned[part], unaligned[part]),
            pairs_of(found, "labels", ("aligned", part), ("unaligned", part)),
            reason,
        )
        for part, name in names.items()
    ]


def branch_claims(found: Scores) -> list[Claim]:
    """What teacher, student and augmentation are worth (Table 5)."""

    def claim(better: BranchSetting, worse: BranchSetting, reason: str) -> Claim:
        ours = pairs_of(found, "branches", (better.key, "iou"), (worse.key, "iou"))
        return Claim(f"the {better.title}", f"the {worse.title}", (better.paper, worse.paper), ours, reason)

    short = "The student starts afresh and has a few hundred steps here; the paper gives it 40 passes."
    return [
        claim(TEACHER_FULL, STUDENT, ""),
        claim(STUDENT, TEACHER, short),
        claim(WEAK, TEACHER, short),
        claim(MIDDLE, WEAK, "The paper's own difference is 0.02 points."),
        claim(STUDENT, MIDDLE, "The paper's own difference is 0.72 points; stronger augmentation needs longer training."),
    ]


def module_claims(found: Scores) -> list[Claim]:
    """What each module is worth (Table 6)."""
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
            pairs_of(found, "settings", (FULL.key, "miou"), (ALL.key, "miou")),
        ),
        *(
            Claim(
                f"{ALL.title} ({name})",
                f'"{setting.title}"',
                (ALL.paper[column], setting.paper[column]),
                pairs_of(found, "settings", (ALL.key, key), (setting.key, key)),
                reasons.get(setting.key, ""),
            )
            for column, (key, name) in enumerate({"miou": "mIoU", "iou": "IoU"}.items())
            for setting in other
        ),
    ]


def ratio_claims(found: Scores) -> list[Claim]:
    """What more annotations are worth (Table 7)."""
    return [
        Claim(
            f"{100 * more.share:g} % of the annotations",
            f"{100 * fewer.share:g} %",
            (more.paper[0], fewer.paper[0]),
            pairs_of(found, "settings", (more.key, "miou"), (fewer.key, "miou")),
            "The validation drives are few: differences of a point are within their noise.",
        )
        for more, fewer in ((ALL, FEWER), (MORE, ALL), (FULL, MORE))
    ]


def disturbed_claims(found: Scores) -> list[Claim]:
    """What degraded inputs cost (Table D.4)."""

    def claim(better: str, worse: str, key: str, column: int) -> Claim:
        paper = (float(DISTURBED[better][column]), float(DISTURBED[worse][column]))
        ours = pairs_of(found, "disturbed", (better, key), (worse, key))
        name = {"iou": "geometric branch's IoU", "miou": "mIoU of the fusion"}[key]
        titles = (f'the {name} with "{DISTURBED[better][0]}"', f'that with "{DISTURBED[worse][0]}"')
        return Claim(*titles, paper, ours, "Which sensor a branch leans on differs between the networks.")

    columns = {"iou": 1, "miou": 2}
    harmful = [claim("baseline", worse, key, column) for key, column in columns.items() for worse in ("image", "points")]
    return [*harmful, claim("points", "image", "miou", 2), claim("image", "points", "iou", 1)]


def pairs_of(found: Scores, table: Table, one: tuple[str, str], other: tuple[str, str]) -> list[tuple[float, float]]:
    """Two scores in percent of every seed that has both, each by the key of its row and its own name."""
    tables = [getattr(scores, table) for scores in found]
    return [
        (100 * float(rows[one[0]][one[1]]), 100 * float(rows[other[0]][other[1]]))
        for rows in tables
        if one[0] in rows and other[0] in rows
    ]
