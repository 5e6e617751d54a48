# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Counts of what a GPU would be asked to do: launches do not depend on how busy a machine is, times do."""

from collections import Counter
from importlib import import_module

from torch.utils._python_dispatch import TorchDispatchMode

VIEWS = {
    "_unsafe_view", "alias", "as_strided", "detach", "diagonal", "expand", "permute", "select", "slice", "split",
    "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unsqueeze", "view", "view_as",
}  # fmt: skip
"""Operations that move no data."""
HOST = {"_local_scalar_dense", "detach_", "lift_fresh", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
"""Operations that launch nothing: memory, and the wait for a value."""


class Launches(TorchDispatchMode):
    """Counts operations by name, and how often the host waits for a value."""

    def __init__(self):
        super().__init__()
        self.names = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names[str(function).split(".")[1]] += 1
        return function(*args, **(kwargs or {}))

    @property
    def launches(self) -> int:
        return sum(count for name, count in self.names.items() if name not in VIEWS | HOST)

    @property
    def waits(self) -> int:
        return self.names["_local_scalar_dense"] + self.names["equal"] + self.names["nonzero"]


def as_on_a_gpu(monkeypatch):
    """Let the sparse layers go a GPU's way on the CPU: no runs or pairs, and chunks as large as a GPU's memory allows."""
    layers, gather, coordinates = (import_module(f"occle_core.sparse.{name}") for name in ("layers", "gather_gemm", "coordinates"))
    monkeypatch.setattr(layers.Coordinates, "runs", None)
    monkeypatch.setattr(gather, "DENSE_SHARE", 0.0)
    monkeypatch.setattr(gather, "_chunk_rows", lambda features, values: 1 << 30)
    monkeypatch.setattr(coordinates, "rows_where", lambda mask: mask.nonzero()[:, 0])
    # Index maps are computed by the CPU's own functions where gradients are scattered.
    monkeypatch.setattr(gather, "pairs_of", lambda rows, size: _Scatter(rows, size, gather._scatter))


class _Scatter:
    def __init__(self, rows, size, scatter):
        self.rows, self.size, self.scatter = rows, size, scatter

    def multiply_back(self, grad, weight):
        return self.scatter(grad, weight, self.rows, self.size)
