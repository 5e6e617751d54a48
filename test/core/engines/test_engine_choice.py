# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`auto` on a CPU: the engine that is fastest, by measurement, remembered."""

import errno
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from lively import lively

from occle_core.bundle import load_bundle
from occle_core.engines.base import EngineResult
from occle_core.engines.choice import timing
from occle_core.engines.choice.cpu import fastest_engine
from occle_core.engines.choice.timing import frame_times, synthetic, times_apart
from occle_core.errors import EngineError
from occle_core.native import build
from occle_core.occupancy import SparseLabels

RESULT = EngineResult(SparseLabels.of_volumes(np.zeros((1, 1, 1), np.uint8), np.zeros((1, 1, 1), np.float16), 0))


class Slow:
    """An engine that takes so long for a frame, one after the other or all at once."""

    precision, device, reason = "fp32", "CPU", ""

    def __init__(self, name, seconds, alone=False):
        self.name, self.seconds, self.runs = name, seconds, 0
        self.lock = threading.Lock() if alone else None

    def run(self, inputs):
        self.runs += 1
        if self.lock:
            with self.lock:
                time.sleep(self.seconds)
        else:
            time.sleep(self.seconds)
        return RESULT


@pytest.fixture
def choose(tmp_path, monkeypatch):
    """Chooses among fakes, and says which were loaded and what was said."""
    monkeypatch.setenv("OCCLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "supported", lambda: ("avx2", "plain"))
    lively(tmp_path / "bundle")
    spec, network, _ = load_bundle(tmp_path / "bundle")

    def run(max_concurrent=1, threads=None, broken="", **engines):
        loaded, said = [], []

        def load(name):
            loaded.append(name)
            if name not in engines:
                raise EngineError(f"{name} is not installed")
            return engines[name]

        def times_of(names):
            if broken:
                raise EngineError(broken)
            return frame_times({name: engines[name] for name in names}, None, max_concurrent, seconds=0.05)

        engine = fastest_engine(spec, network, load, times_of, "fp32", threads, max_concurrent, said.append)
        return engine, loaded, said

    return run


def test_the_fastest_is_taken_and_remembered(choose):
    engines = {"native": Slow("native", 0.02), "torch": Slow("torch", 0.001)}
    engine, loaded, said = choose(**engines)
    assert engine.name == "torch" and loaded == ["native", "torch"] and any("measuring" in line for line in said)
    assert "native 2" in engine.reason and "torch" in engine.reason
    runs = engines["native"].runs
    engine, loaded, said = choose(**engines)
    assert engine.name == "torch" and loaded == ["torch"] and not said and engines["native"].runs == runs
    assert "native 2" in engine.reason


def test_another_use_is_measured_by_itself(choose):
    engines = {"native": Slow("native", 0.02, alone=True), "torch": Slow("torch", 0.04)}
    assert choose(**engines)[0].name == "native"
    assert choose(max_concurrent=4, **engines)[0].name == "torch", "it does four in the time of one"
    assert choose(threads=3, **engines)[1] == ["native", "torch"]


def test_without_kernels_fixed_programs_are_measured_too(choose):
    engine, loaded, _ = choose(openvino=Slow("openvino", 0.001), torch=Slow("torch", 0.01))
    assert engine.name == "openvino" and loaded == ["native", "openvino", "torch"]
    assert "not native: native is not installed" in engine.reason
    engine, loaded, _ = choose(max_concurrent=2, openvino=Slow("openvino", 0.001), torch=Slow("torch", 0.01))
    assert engine.name == "torch" and loaded == ["native", "torch"], "exporting takes a minute"


def test_an_engine_that_is_gone_is_replaced(choose):
    engines = {"native": Slow("native", 0.001), "torch": Slow("torch", 0.02)}
    assert choose(**engines)[0].name == "native"
    engine, _, said = choose(torch=engines["torch"])
    assert engine.name == "torch" and "native is not installed" in engine.reason and said


def test_what_cannot_be_measured_is_measured_at_the_next_start(choose):
    engines = {"native": Slow("native", 0.02), "torch": Slow("torch", 0.001)}
    engine, _, said = choose(broken="the process failed: killed", **engines)
    assert engine.name == "native" and engine.reason == "auto: works here"
    assert said[-1] == "the process failed: killed; the next start tries again"
    assert choose(**engines)[0].name == "torch"


def test_no_engine(choose):
    with pytest.raises(EngineError, match=r"no engine works here: native: .*torch is not installed"):
        choose()


def test_a_cache_that_cannot_be_written_costs_the_memory_only(choose, tmp_path):
    (tmp_path / "cache").write_text("a file")
    engines = {"native": Slow("native", 0.001), "torch": Slow("torch", 0.02)}
    engine, loaded, said = choose(**engines)
    assert engine.name == "native" and loaded == ["native", "torch"] and any("OCCLE_CACHE" in line for line in said)


def test_a_disk_that_is_full_costs_the_memory_only(choose, tmp_path, monkeypatch):
    def full(path, *text, **given):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_text", full)
    engines = {"native": Slow("native", 0.001), "torch": Slow("torch", 0.02)}
    engine, loaded, said = choose(**engines)
    assert engine.name == "native" and loaded == ["native", "torch"]  # measured once
    assert any("No space left on device" in line and "OCCLE_CACHE" in line for line in said)


def test_turns_are_fair_and_at_least_two():
    engines = {"a": Slow("a", 0.01), "b": Slow("b", 0.001)}
    times = frame_times(engines, None, 1, seconds=0.0)
    assert engines["a"].runs == engines["b"].runs == 3 and times["a"] > times["b"] >= 1


@pytest.mark.parametrize("rig", ["kitti", "nuscenes"])
def test_the_made_up_street_fills_the_grid(tmp_path, rig):
    spec = lively(tmp_path / "bundle", rig)
    inputs = synthetic(spec)
    assert inputs.batch_size == 1 and inputs.sizes["voxels"] > 1000


@pytest.fixture
def spec_and_network(tmp_path):
    lively(tmp_path / "bundle")
    return load_bundle(tmp_path / "bundle")[:2]


def test_engines_are_measured_in_a_process_of_their_own(spec_and_network, monkeypatch):
    monkeypatch.setattr(timing, "frame_times", None)  # of this process
    times = times_apart(*spec_and_network, None, ["torch"], "fp32", 1, 1)
    assert list(times) == ["torch"] and times["torch"] > 0


@pytest.mark.parametrize(
    ("names", "executable", "message"),
    [
        (["torch", "nothing"], None, "the process that measures torch, nothing failed: .*there is no engine 'nothing'"),
        (["torch"], "/no/python", "torch cannot be measured in a process apart: .*No such file"),
        (["torch"], "/bin/false", "failed: exit code 1"),
    ],
)
def test_a_measuring_process_that_fails_is_an_engine_error(spec_and_network, monkeypatch, names, executable, message):
    if executable:
        monkeypatch.setattr(timing.sys, "executable", executable)
    with pytest.raises(EngineError, match=message):
        times_apart(*spec_and_network, None, names, "fp32", 1, 1)
