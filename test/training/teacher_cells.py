# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What an averaged teacher teaches a cell, as a specification in plain numbers."""

from occle_train.data.self_training import LEAST_CELLS, NEITHER, POINTS

FREE, NONE = 0, 255


def one_cell(teacher, raw, vote, occupancy):
    """The specification of a cell: its class and its occupancy."""
    least = teacher.config.least_confidence
    if occupancy == 0:  # rays passed it
        return NONE, 0
    p = teacher.calibrated(raw[None], POINTS if occupancy == 1 else NEITHER)[0].double().numpy()
    if occupancy == NONE:
        best = int(p.argmax())
        if p[best] < least:
            return NONE, NONE
        return (NONE, 0) if best == FREE else (best, 1)
    p[FREE] = 0
    p = p / max(p.sum(), 1e-12)
    if vote != NONE:
        votes = teacher.votes.numpy()
        p = p * (votes[vote] + 1 / len(votes)) / (votes.sum(0) + 1)
        p = p / max(p.sum(), 1e-12)
        sure = p.max() >= least and votes[:, vote].sum() >= LEAST_CELLS
        return (int(p.argmax()) if sure else vote), 1
    return (int(p.argmax()) if p.max() >= least else NONE), 1
