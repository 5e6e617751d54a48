# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Ring indexing against an array that is really copied when the window moves."""

from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from occle_core.mapping.ring import Ring

Shapes = st.tuples(*[st.integers(1, 6)] * 3)
Lows = st.tuples(*[st.integers(-20, 20)] * 3)


class Copying:
    """A window that copies its cells when it moves: what the ring has to look like."""

    def __init__(self, shape, low):
        self.low, self.cells = low, np.zeros(shape, np.int64)

    def move(self, low):
        fresh = np.zeros_like(self.cells)
        for cell in product(*map(range, fresh.shape)):
            old = tuple(c + new - was for c, new, was in zip(cell, low, self.low))
            if all(0 <= o < n for o, n in zip(old, fresh.shape)):
                fresh[cell] = self.cells[old]
        self.low, self.cells = low, fresh


@given(Shapes, Lows, st.lists(Lows, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_moving_is_like_copying(shape, low, lows, random):
    ring, reference = Ring(shape, low), Copying(shape, low)
    storage, window = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for number, target in enumerate(lows):
        written = np.array([random.randint(1, 99) for _ in range(storage.size)]).reshape(shape) + 100 * number
        reference.cells[...] = written
        ring.to_ring(written, storage)
        for entered in ring.move(target):
            storage[entered] = 0
        reference.move(target)
        ring.to_window(storage, window)
        np.testing.assert_array_equal(window, reference.cells)


@given(Shapes, Lows)
def test_a_cell_is_stored_at_its_number_modulo_the_shape(shape, low):
    ring = Ring(shape, low)
    numbers = np.arange(np.prod(shape)).reshape(shape)
    storage = np.empty_like(numbers)
    ring.to_ring(numbers, storage)
    for cell in product(*map(range, shape)):
        assert storage[tuple((c + o) % n for c, o, n in zip(cell, low, shape))] == numbers[cell]
    np.testing.assert_array_equal(storage.reshape(-1)[ring.places(numbers.reshape(-1))], numbers.reshape(-1))
    np.testing.assert_array_equal(ring.cells(ring.places(numbers.reshape(-1))), numbers.reshape(-1))


def test_a_small_move_clears_only_what_entered():
    ring = Ring((10, 10, 4))
    entered = np.zeros(ring.shape, bool)
    for part in ring.move((1, -2, 0)):
        entered[part] = True
    assert entered.sum() == 10 * 10 * 4 - 9 * 8 * 4
    assert ring.move((1, -2, 0)) == []
