# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Log-odds and votes of every cell against a loop over cells in plain Python."""

import numpy as np
import pytest

from occle_core.mapping.config import UNITS, MapConfig
from occle_core.mapping.evidence import MAX_VOTES, Evidence
from occle_core.taxonomy import IGNORE

DYNAMIC = np.zeros(256, bool)
DYNAMIC[[1, 2]] = True
GROUND = np.zeros(256, bool)
GROUND[[4, 5]] = True
CONFIG = MapConfig(
    size=(2.0, 1.6, 1.2), occupied_limit=3.0, free_limit=1.0, dynamic_memory=1.0, static_memory=10.0, free_memory=5.0
)


class Cell:
    """One cell, as the docs describe it."""

    def __init__(self):
        self.log_odds, self.label, self.lead = 0, IGNORE, 0

    def frame(self, evidence, label, confidence):
        if label is not None:
            lead = self.lead if self.log_odds > 0 else 0
            lead += confidence if label == self.label else -confidence
            if lead < 0 or self.label == IGNORE:
                if DYNAMIC[self.label] and not DYNAMIC[label]:
                    self.log_odds = min(self.log_odds, 0)
                self.label = label
            self.lead = min(abs(lead), round(MAX_VOTES * UNITS))
        lowest, highest = -round(CONFIG.free_limit * UNITS), round(CONFIG.occupied_limit * UNITS)
        if DYNAMIC[self.label] and evidence < 0:
            evidence = min(evidence, -round(CONFIG.dynamic_clearing * UNITS))
        self.log_odds = max(lowest, min(highest, self.log_odds + evidence))


def test_random_frames_give_every_cell_what_a_loop_gives_it():
    rng = np.random.default_rng(0)
    evidence = Evidence(CONFIG, DYNAMIC, GROUND)
    count = evidence.log_odds.size
    cells = [Cell() for _ in range(count)]
    for _ in range(60):
        given = rng.integers(-124, 125, count).astype(np.int8)  # 62 of a scan and 62 of a network are the most
        named = np.flatnonzero(rng.random(count) < 0.5)
        labels = rng.integers(1, 4, len(named)).astype(np.uint8)
        confidence = rng.integers(0, UNITS + 1, len(named)).astype(np.uint8)
        said = dict(zip(named.tolist(), zip(labels.tolist(), confidence.tolist())))
        for number, cell in enumerate(cells):
            cell.frame(int(given[number]), *said.get(number, (None, 0)))
        evidence.vote(named, labels, confidence)
        evidence.add(given.reshape(CONFIG.shape), 0.0)
        assert evidence.log_odds.reshape(-1).tolist() == [cell.log_odds for cell in cells]
        assert evidence.labels.reshape(-1).tolist() == [cell.label for cell in cells]
        assert evidence.votes.reshape(-1).tolist() == [cell.lead for cell in cells]


def held(log_odds, label):
    evidence = Evidence(CONFIG, DYNAMIC, GROUND)
    evidence.restore(
        np.full(CONFIG.shape, log_odds, np.int8), np.full(CONFIG.shape, label, np.uint8), np.full(CONFIG.shape, 9, np.uint8)
    )
    return evidence


@pytest.mark.parametrize("step", [0.01, 0.1, 0.33])
@pytest.mark.parametrize(
    ("log_odds", "label", "memory"), [(48, 1, 1.0), (48, 3, 10.0), (48, IGNORE, 10.0), (-16, 1, 5.0), (-16, IGNORE, 5.0)]
)
def test_unobserved_cells_fade_evenly_whatever_the_frame_rate(step, log_odds, label, memory):
    evidence = held(log_odds, label)
    for number in range(1, round(memory / step) + 1):
        evidence.add(np.zeros(CONFIG.shape, np.int8), step)
        expected = log_odds * (1 - min(1, number * step / memory))
        assert np.abs(evidence.log_odds - expected).max() <= 1
    evidence.add(np.zeros(CONFIG.shape, np.int8), step)
    assert not evidence.log_odds.any()


def test_observed_cells_do_not_fade():
    evidence, frame = held(47, 1), np.zeros(CONFIG.shape, np.int8)
    frame[0] = 1
    evidence.add(frame, 100.0)
    assert (evidence.log_odds[0] == 48).all() and not evidence.log_odds[1:].any()


def test_restored_cells_know_which_of_them_move():
    evidence = held(48, 2)
    evidence.add(np.full(CONFIG.shape, -1, np.int8), 0.0)
    assert (evidence.log_odds == 48 - round(CONFIG.dynamic_clearing * UNITS)).all()


def test_the_lowest_ground_has_nothing_occupied_right_below_and_sure_ground_is_above_its_limit():
    rng = np.random.default_rng(1)
    evidence = Evidence(CONFIG, DYNAMIC, GROUND)
    log_odds, labels = rng.integers(-5, 6, CONFIG.shape).astype(np.int8), rng.integers(3, 7, CONFIG.shape).astype(np.uint8)
    evidence.restore(log_odds, labels, np.zeros(CONFIG.shape, np.uint8))
    log_odds[0] = 10 * log_odds[0]
    found, sure = np.zeros((2, *CONFIG.shape), bool)
    for cells, mask in zip(evidence.ground(), (found, sure)):
        mask.reshape(-1)[cells] = True
    for x, y, z in np.ndindex(CONFIG.shape):
        ground = labels[x, y, z] in (4, 5) and log_odds[x, y, z] > 0
        assert found[x, y, z] == (ground and log_odds[x, y, z - 1] <= 0)
        assert sure[x, y, z] == (ground and log_odds[x, y, z] > CONFIG.sure_ground * UNITS)
