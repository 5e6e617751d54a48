# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The map as an OctoMap: the binary tree format `.bt` of octomap 1.9 (Hornung et al., "OctoMap", 2013).

A file is a text header, then the nodes in depth-first order, each as 16 bits: two bits per child, child 0 in the lowest.
00: unknown, 01: free leaf (bit 0 set), 10: occupied leaf (bit 1 set), 11: inner node, which follows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from occle_core.atomic_file import atomic_write
from occle_core.mapping.snapshot import MapSnapshot

DEPTH = 16
CENTER = 1 << (DEPTH - 1)
"""Key of the cell whose lowest corner is the origin."""
FREE, OCCUPIED, INNER = 1, 2, 3


def export_octomap(path: Path | str, snapshot: MapSnapshot) -> int:
    """Write occupied and free cells; unknown ones are left out. Eight equal leaves are merged.

    Returns:
        number of nodes of the tree.

    Raises:
        ValueError: the map lies more than 32768 cells from the origin, which the format cannot say.
        OSError: it cannot be written.
    """
    states = np.where(snapshot.occupied, np.uint8(OCCUPIED), np.where(snapshot.free, np.uint8(FREE), np.uint8(0)))
    low = np.round(np.asarray(snapshot.grid.origin) / snapshot.grid.resolution).astype(np.int64) + CENTER
    cells = np.argwhere(states)
    keys = cells + low
    if len(keys) and (keys.min() < 0 or keys.max() >= 1 << DEPTH):
        raise ValueError(f"{path}: the map lies more than {CENTER} cells from the origin; OctoMap's keys end there")
    body, nodes = _tree(keys, states[tuple(cells.T)])
    header = (
        "# Octomap OcTree binary file\n# (feel free to add / change comments, but leave the first line as it is!)\n#\n"
        f"id OcTree\nsize {nodes}\nres {snapshot.grid.resolution!r}\ndata\n"
    )
    with atomic_write(Path(path)) as temporary:
        temporary.write_bytes(header.encode() + body)
    return nodes


def _tree(keys: NDArray[np.int64], states: NDArray[np.uint8]) -> tuple[bytes, int]:
    """The nodes from the leaves up: codes of the nodes of one depth, and the bytes of each one's subtree.

    Args:
        keys: (N, 3) different cells. states: (N,) FREE or OCCUPIED.

    Returns:
        the bytes of all inner nodes in depth-first order, and the number of nodes, leaves included.
    """
    codes = _morton(keys)
    order = np.argsort(codes)
    codes, states = codes[order], states[order]
    below: list[bytes] = [b""] * len(codes)
    sizes = np.ones(len(codes), np.int64)
    for _ in range(DEPTH):
        parents, first = np.unique(codes >> 3, return_index=True)
        bits = states.astype(np.uint16) << (2 * (codes & 7)).astype(np.uint16)
        words = np.bitwise_or.reduceat(bits, first) if len(first) else bits
        counts = np.diff(np.append(first, len(codes)))
        # Eight equal leaves become one; 0x5555 and 0xAAAA are eight times FREE and eight times OCCUPIED.
        merged = np.where(words == 0x5555, FREE, np.where(words == 0xAAAA, OCCUPIED, INNER)).astype(np.uint8)
        sums = np.add.reduceat(sizes, first) if len(first) else sizes
        ends = first + counts
        below = [
            b"" if state != INNER else word.tobytes() + b"".join(below[a:b])
            for state, word, a, b in zip(merged, words.astype("<u2"), first, ends)
        ]
        sizes = np.where(merged == INNER, sums + 1, 1)
        codes, states = parents, merged
    return b"".join(below), int(sizes.sum())


def _morton(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N, 3) keys -> (N,) numbers whose base-8 digits, highest first, are the children on the way down: x + 2 y + 4 z."""
    codes = np.zeros(len(keys), np.int64)
    for level in range(DEPTH):
        for axis in range(3):
            codes |= (keys[:, axis] >> level & 1) << (3 * level + axis)
    return codes
