# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Two processes with half of each batch are one process with the whole batch: MinkOcc, and OccLE in all of its phases."""

import csv
import os
from pathlib import Path

import pytest
import torch
from forked_python import run_python
from occle_train.loop.sync_batch_norm import sync_batch_norms
from occle_train.loop.training_log import TIMES
from occle_train.minkocc.config import FitConfig
from occle_train.minkocc.fit import fit
from occle_train.process_group import ProcessGroup, join_process_group
from rooms import Rooms, spec

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


PAIR = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def started(out, launcher, program="processes.py"):
    out.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (HERE, ROOT, ROOT / "training"))), "OMP_NUM_THREADS": "1"}
    command = [*launcher, HERE / program, out, out / "labels"]
    done = run_python(command, timeout=400, environment=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return [
        {name: float(value) for name, value in row.items() if name not in TIMES}
        for log in sorted(out.rglob("log.csv"))
        for row in csv.DictReader(log.open())
    ]


def assert_same(row, other, rel):
    """Rows of two logs, but for rounding, which steps of an adaptive optimiser make larger in the gradient than in the losses."""
    norm, other_norm = row.pop("gradient_norm"), other.pop("gradient_norm")
    assert other == pytest.approx(row, rel=rel, abs=0.1 * rel)
    assert other_norm == pytest.approx(norm, rel=10 * rel)


def test_two_processes_give_the_curve_of_one(tmp_path):
    one = started(tmp_path / "one", [])
    two = started(tmp_path / "two", PAIR)
    assert len(one) == len(two) == 6
    for row, other in zip(one, two):
        assert_same(row, other, 5e-4)
    assert one[0]["pseudo"] == 0 < one[4]["pseudo"] and one[0]["semantic"] > 0
    # Processes stay equal to the bit; running statistics of batch norm included.
    weights = [torch.load(tmp_path / name, weights_only=True) for name in ("two/weights0.pt", "two/weights1.pt", "one/weights0.pt")]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
        if name.endswith(("running_mean", "running_var")):
            torch.testing.assert_close(value, weights[2][name], rtol=2e-2, atol=2e-3)


def test_two_processes_give_the_curves_of_one_in_all_phases_of_occle(tmp_path):
    one = started(tmp_path / "one", [], "occle_processes.py")
    two = started(tmp_path / "two", PAIR, "occle_processes.py")
    assert len(one) == len(two) == 4 * 3
    for row, other in zip(one, two):
        assert_same(row, other, 1e-3)
    assert all(row["total"] > 0 for row in one) and sum(row.get("voxel_pseudo_labels", 0) for row in one) > 0
    weights = [torch.load(tmp_path / name, weights_only=True) for name in ("two/weights0.pt", "two/weights1.pt")]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_a_process_alone_is_left_as_it_is():
    network = spec().build()
    with join_process_group("cpu") as (group, device), sync_batch_norms(network, group):
        assert (group, device) == (ProcessGroup(), "cpu") and group.total(torch.tensor(3.0)) == 3
        assert not any("forward" in module.__dict__ for module in network.modules())


def test_a_batch_that_cannot_be_shared_out_is_refused(tmp_path):
    from occle_train.data.samples import Samples

    room = spec()
    samples = Samples([Rooms("a")], room.voxel_grid, room.network)
    with pytest.raises(ValueError, match="batch_size 3 cannot be shared out evenly over 2"):
        fit(room, samples, FitConfig(batch_size=3), tmp_path, group=ProcessGroup(0, 2))
