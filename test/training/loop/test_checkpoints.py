# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Checkpoints and logs: what a run is resumed from, after a kill, a full disk, damage, or with other settings."""

import csv
import os
import resource
import signal
import time
from pathlib import Path

import pytest
import torch
import yaml
from forked_python import ForkedPython, run_python
from occle_train.data.samples import Samples
from occle_train.loop.checkpoints import Checkpoint, read_checkpoint
from occle_train.loop.steps import TrainingHooks
from occle_train.minkocc.config import FitConfig
from occle_train.minkocc.fit import fit
from rooms import GRID, NETWORK, Rooms, spec
from torch import nn


def checkpoint(path):
    return Checkpoint(path, {"fit": {"seed": 0}}, {"network": nn.Linear(3, 3)}, every=1)


def test_a_checkpoint_cut_at_any_length_is_refused(tmp_path):
    file = tmp_path / "checkpoint.pt"
    checkpoint(file).save(7)
    assert checkpoint(file).load() == 7
    whole = file.read_bytes()
    for length in [*range(0, len(whole) - 1, max(1, len(whole) // 60)), len(whole) - 1]:
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged .*delete it to start afresh") as error:
            checkpoint(file).load()
        assert "\n" not in str(error.value)


def test_files_that_are_no_checkpoints_are_refused(tmp_path):
    file = tmp_path / "checkpoint.pt"
    torch.save({"weights": torch.ones(2)}, file)
    with pytest.raises(ValueError, match="is no checkpoint of occle-train"):
        read_checkpoint(file)
    torch.save(nn.Linear(1, 1), file)  # code, which is not run
    with pytest.raises(ValueError, match="is damaged"):
        read_checkpoint(file)


def test_a_full_disk_keeps_the_checkpoint_before_and_leaves_nothing(tmp_path):
    file = tmp_path / "checkpoint.pt"
    checkpoint(file).save(3)
    before = file.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
        with pytest.raises(OSError, match=r"checkpoint\.pt cannot be written .*is the disk full\?") as error:
            checkpoint(file).save(4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "\n" not in str(error.value)
    assert file.read_bytes() == before and [each.name for each in tmp_path.iterdir()] == ["checkpoint.pt"]


def rows(folder):
    with (folder / "log.csv").open() as file:
        return [row[:-4] for row in csv.reader(file)]  # without the times and the memory


def stop_at(wanted):
    def stop(phase, step, losses):
        if step == wanted:
            raise KeyboardInterrupt

    return stop


def test_what_changes_no_result_may_change_on_resuming(tmp_path):
    torch.set_num_threads(1)
    samples = Samples([Rooms("a")], GRID, NETWORK)
    config = FitConfig(steps=6, warmup_steps=1, batch_size=2, checkpoint_every=2)
    whole = fit(spec(), samples, config, tmp_path / "whole").state_dict()
    with pytest.raises(KeyboardInterrupt):
        fit(spec(), samples, config, tmp_path / "stopped", hooks=TrainingHooks(stop_at(3)))
    resumed = fit(spec(), samples, config.model_copy(update={"num_workers": 1, "checkpoint_every": 5}), tmp_path / "stopped")
    assert rows(tmp_path / "stopped") == rows(tmp_path / "whole")
    assert all(torch.equal(resumed.state_dict()[name], value) for name, value in whole.items())
    for change in ({"truth_mask": "lidar"}, {"seed": 1}, {"learning_rate": 1e-3}):
        with pytest.raises(ValueError, match="another configuration"):
            fit(spec(), samples, config.model_copy(update=change), tmp_path / "whole")


def test_a_killed_run_loses_no_row_before_its_checkpoint(simulated, tmp_path):
    """SIGKILL between two checkpoints: the log has every step when the run is through."""
    (tmp_path / "data").symlink_to(simulated("kitti"))

    def fitting(every, workers):
        settings = {"steps": 24, "batch_size": 1, "learning_rate": 0.01, "checkpoint_every": every, "num_workers": workers}
        (tmp_path / "fit.yaml").write_text(yaml.safe_dump(settings))
        options = {"data": "data", "out": "out"} if every == 3 else {"resume": "out"}
        options["config"] = "fit.yaml"
        words = [word for key, name in options.items() for word in (f"--{key}", str(tmp_path / name))]
        return ["-m", "occle_train.cli", "fit", *words, *(["--size", "tiny"] if every == 3 else []), "--threads", "1"]

    run = ForkedPython(fitting(3, 0), Path(os.devnull), before=os.setsid)
    end = time.monotonic() + 120
    while not (tmp_path / "out" / "checkpoint.pt").exists() and time.monotonic() < end:
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    done = run_python(fitting(4, 1))
    assert done.returncode == 0, done.stderr
    assert [row[0] for row in rows(tmp_path / "out")] == ["step", *map(str, range(24))]
