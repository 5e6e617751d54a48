# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Claims of the paper's tables as comparisons that can be checked against our figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """The paper finds that one value is larger than another.

    Args:
        better, worse: what is compared, in words.
        paper: both values, percent.
        ours: both values, percent; None where one was not measured.
        reason: a likely cause where ours disagree.
    """

    better: str
    worse: str
    paper: tuple[float, float]
    ours: tuple[float, float] | None
    reason: str = ""

    @property
    def holds(self) -> bool | None:
        """True if our figures agree; None where that is not known."""
        return None if self.ours is None else self.ours[0] > self.ours[1]

    def sentence(self) -> str:
        """One sentence about a disagreement, or about agreement."""
        if self.ours is None:
            return f"{self.better} against {self.worse}: not run."
        ours, paper = (f"{a:.2f} against {b:.2f}" for a, b in (self.ours, self.paper))
        if self.holds:
            return f"As in the paper, {self.better} beats {self.worse}: {ours} here, {paper} there."
        reason = f" A possible cause: {self.reason[0].lower()}{self.reason[1:]}" if self.reason else ""
        return f"**Unlike the paper**, {self.better} does not beat {self.worse}: {ours} here, {paper} there.{reason}"


def listed(claims: Sequence[Claim]) -> str:
    """The claims' sentences as a list."""
    return "\n".join(f"- {claim.sentence()}" for claim in claims)
