# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The loop itself: stopping after any step and resuming gives the same curve; a time limit ends the schedule."""

import csv
import multiprocessing
import os
import time

import pytest
import torch
from occle_train.data.samples import Samples
from occle_train.loop.checkpoints import read_checkpoint
from occle_train.loop.schedule import scheduled_rate, warmup_cosine
from occle_train.loop.steps import Clock, TrainingHooks, shared_seconds
from occle_train.loop.training_log import TIMES
from occle_train.loop.workers import cache_size, load_batches, loader_processes
from occle_train.minkocc.config import FitConfig
from occle_train.minkocc.fit import fit
from occle_train.process_group import ProcessGroup
from rooms import GRID, NETWORK, Rooms, spec

CONFIG = FitConfig(steps=5, warmup_steps=1, batch_size=1, checkpoint_every=2)


def rows(folder):
    with (folder / "log.csv").open() as file:
        return [{name: value for name, value in row.items() if name not in TIMES} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def samples():
    torch.set_num_threads(1)
    return Samples([Rooms("a")], GRID, NETWORK)


@pytest.fixture(scope="module")
def whole(samples, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, fit(spec(), samples, CONFIG, folder).state_dict()


@pytest.mark.parametrize("stop", range(1, 5))
def test_stopping_after_any_step_and_resuming_gives_the_same_curve_and_weights(samples, whole, tmp_path, stop):
    seen = []
    hooks = TrainingHooks(lambda phase, step, losses: seen.append(step), should_stop=lambda: len(seen) == stop)
    fit(spec(), samples, CONFIG, tmp_path, hooks=hooks)
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == stop == len(seen)
    resumed = fit(spec(), samples, CONFIG, tmp_path).state_dict()
    assert rows(tmp_path) == rows(whole[0]) and len(rows(tmp_path)) == 5
    assert all(torch.equal(resumed[name], value) for name, value in whole[1].items())


@pytest.mark.parametrize("killed", range(1, 5))
def test_dying_in_any_step_and_resuming_gives_the_same_curve_and_weights(samples, whole, tmp_path, killed):
    """Without a word, between two checkpoints: the steps since the last one are made again."""

    def die(phase, step, losses):
        if step == killed:
            raise MemoryError

    with pytest.raises(MemoryError):
        fit(spec(), samples, CONFIG, tmp_path, hooks=TrainingHooks(die))
    resumed = fit(spec(), samples, CONFIG, tmp_path).state_dict()
    assert rows(tmp_path) == rows(whole[0])
    assert all(torch.equal(resumed[name], value) for name, value in whole[1].items())


def test_validation_sees_a_copy_of_the_average_and_changes_nothing(samples, whole, tmp_path):
    seen = []

    def validate(step, network):
        assert not network.training
        seen.append(step)
        for parameter in network.parameters():
            parameter.data.zero_()

    network = fit(spec(), samples, CONFIG, tmp_path, hooks=TrainingHooks(validate=validate, validate_every=2)).state_dict()
    assert seen == [2, 4] and all(torch.equal(network[name], value) for name, value in whole[1].items())


def test_a_training_whose_time_is_over_is_finished(samples, tmp_path):
    config = CONFIG.model_copy(update={"steps": 1000, "max_minutes": 1e-4})
    fit(spec(), samples, config, tmp_path)
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 1000 and len(rows(tmp_path)) < 20
    before = rows(tmp_path)
    fit(spec(), samples, config, tmp_path)
    assert rows(tmp_path) == before


def test_with_a_time_limit_the_learning_rate_follows_whichever_is_further_on_step_or_clock():
    assert scheduled_rate(50, 10, 100, 10, 100) == warmup_cosine(50, 10, 100)  # the machine is as fast as measured, or faster
    assert scheduled_rate(20, 10, 100, 50, 100) == pytest.approx(warmup_cosine(55, 10, 100))  # slower: half of the time is over
    assert scheduled_rate(20, 10, 100, 100, 100) == pytest.approx(0)
    assert scheduled_rate(5, 10, 100, 90, 100) == warmup_cosine(5, 10, 100)  # the warm-up is one of steps


def test_loader_processes_by_the_cores(monkeypatch):
    for cores, cpu, cuda in ((1, 0, 1), (2, 0, 1), (4, 1, 3), (16, 4, 8)):
        monkeypatch.setattr("os.sched_getaffinity", lambda pid, count=cores: set(range(count)))
        assert (loader_processes(None, "cpu"), loader_processes(None, "cuda:0")) == (cpu, cuda)
        assert loader_processes(5, "cpu") == 5
    assert loader_processes(None, "cuda", processes=4) == 3


class Unpickled:
    """Batches that only a fork carries into another process."""

    def __init__(self):
        self.square = lambda n: torch.tensor(n * n)

    def __getitem__(self, n):
        return self.square(n)


def test_loader_processes_are_forked_whatever_pythons_default_is():
    """It is forkserver from Python 3.14 on."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("forkserver", force=True)
    try:
        assert [int(n) for n in load_batches(Unpickled(), [3, 4, 5], 1, "cpu")] == [9, 16, 25]
    finally:
        multiprocessing.set_start_method(before, force=True)
    assert [int(n) for n in load_batches(Unpickled(), [3, 4], 0, "cpu")] == [9, 16]


def test_loaders_share_what_is_kept_in_memory(monkeypatch):
    """By default too, where a GPU's eight loaders would keep eight times as much."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(32))
    for asked, device, processes in ((None, "cuda:0", 1), (None, "cuda", 4), (6, "cpu", 1), (0, "cpu", 1)):
        loaders = max(1, loader_processes(asked, device, processes))
        assert cache_size(asked, device, processes) * loaders == pytest.approx(4)


def test_processes_of_a_time_limit_see_one_time(monkeypatch):
    """The learning rate follows the time; processes that began at other moments would learn at other rates, and drift apart."""
    clock = Clock(10.0)
    monkeypatch.setattr(time, "monotonic", lambda: clock._started)
    assert shared_seconds(clock, ProcessGroup(), "cpu") == 10.0
    monkeypatch.setattr(ProcessGroup, "total", lambda self, value: value + 14.0)  # the other's
    assert shared_seconds(clock, ProcessGroup(0, 2), "cpu") == 12.0
