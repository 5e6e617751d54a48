# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Work on processes and on Ray gives, in order, what one process gives; faults arrive as they were, and no worker is left."""

import multiprocessing
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from occle_train import worker_pool
from occle_train.pseudo_labels.label_folder import LoadedOnce, write_missing
from occle_train.worker_pool import ALONE, Workers, consecutive_parts, find_workers, mapped
from pool_work import Opened, hang_or_die, square, zeros

from occle_core import taxonomy


@pytest.fixture(scope="module", name="ray")
def _ray():
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # The functions of these tests are not installed.
    variables = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # as find_workers does
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": variables})
    yield Workers(2, on_ray=True)
    ray.shutdown()


@pytest.fixture(params=["processes", "ray"])
def two(request):
    """Two workers of each kind."""
    return request.getfixturevalue("ray") if request.param == "ray" else Workers(2)


def test_results_are_in_order_and_each_worker_opens_once(two, monkeypatch):
    monkeypatch.setattr(worker_pool, "_visible_gpus", lambda: ["3", "5"])
    workers = two if two.on_ray else replace(two, gpus=True)
    found = []
    # An error is of its type and names its item; those before it had their results.
    with (
        pytest.raises(LookupError, match=r"^frame 7: no such frame$"),
        mapped(square, range(9), Opened, 100, workers, lambda item: f"frame {item}") as results,
    ):
        for result in results:
            found.append(result)
    values, pids, asked, devices = zip(*found[:7])
    assert len(found) == 7 and list(values) == [100 + i**2 for i in range(7)] and os.getpid() not in pids
    for pid in set(pids):
        assert [n for p, n in zip(pids, asked) if p == pid] == list(range(1, pids.count(pid) + 1))
        assert two.on_ray or len({device for p, device in zip(pids, devices) if p == pid} & {"3", "5"}) == 1
    assert two.on_ray or len(set(devices)) == len(set(pids))
    assert not multiprocessing.active_children()


def test_here_is_the_same_work():
    with mapped(square, range(3), Opened, 0) as results:
        assert [result[:3] for result in results] == [(i**2, os.getpid(), i + 1) for i in range(3)]
    with pytest.raises(LookupError, match=r"^7: no such"), mapped(square, [7], Opened, 0) as results:
        next(results)
    with mapped(square, [], Opened, 0, Workers(3)) as results:
        assert list(results) == []


def test_ctrl_c_ends_the_workers_at_once_and_a_dead_one_is_said():
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt), mapped(hang_or_die, [0], Opened, 0, Workers(2)):
        while not multiprocessing.active_children():
            time.sleep(0.01)
        raise KeyboardInterrupt
    with (
        pytest.raises(ChildProcessError, match="a worker process died"),
        mapped(hang_or_die, [1], Opened, 0, Workers(2)) as results,
    ):
        next(results)
    assert not multiprocessing.active_children() and time.monotonic() - begun < 300


class Images:
    """A data set of four frames with two cameras."""

    kind, name, camera_names, taxonomy, numbers = "images", "00", ("a", "b"), taxonomy.load("semantickitti"), range(10, 14)

    def __len__(self):
        return 4

    def image_file(self, i, camera):
        return Path(f"{self.numbers[i]:06d}.png")


def noise(dataset, i, camera):
    return tuple(np.random.default_rng([i, ord(camera)]).integers(0, 20, (2, 8, 16), dtype=np.uint8))


def load_noise():
    return noise


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_label_images_are_those_of_one_process(tmp_path, two):
    classes, seen = Images.taxonomy, []
    assert write_missing(tmp_path / "one", [Images()], noise, classes, {}) == (8, 0)
    labeller = LoadedOnce(load_noise)
    (tmp_path / "two/00/a").mkdir(parents=True)
    (tmp_path / "two/00/a/000011.png").write_bytes((tmp_path / "one/00/a/000011.png").read_bytes())
    (tmp_path / "two/00/a/000011.confidence.png").write_bytes((tmp_path / "one/00/a/000011.confidence.png").read_bytes())
    done = write_missing(tmp_path / "two", [Images()], labeller, classes, {}, lambda scene, i: seen.append(i), two)
    assert done == (7, 1) and seen == [0, 1, 2, 3]
    assert contents(tmp_path / "two") == contents(tmp_path / "one") and len(contents(tmp_path / "one")) == 17


def test_parts_are_consecutive():
    assert consecutive_parts(range(5), Workers(2)) == [range(0, 3), range(3, 5)]
    assert consecutive_parts(range(5), Workers(2), 2) == [range(0, 2), range(2, 4), range(4, 5)]
    assert consecutive_parts([3, 4], ALONE) == [[3], [4]] and consecutive_parts([], Workers(2)) == []


def test_workers_are_found():
    assert find_workers() == find_workers(1) == ALONE and find_workers(2, device="cpu").count == 2


def test_a_missing_ray_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'occle_ros\[cluster\]'"):
        find_workers(address="auto")


def test_arrays_from_a_cluster_may_be_written_to(ray):
    with mapped(zeros, [np.zeros(3), np.zeros(100_000)], Opened, 0, ray) as results:
        for result in results:
            result += 1


def test_a_cluster_gives_a_worker_per_core(ray):
    found = find_workers(address="local")
    assert found == Workers(2, 1, on_ray=True) and find_workers(1, "local").count == 1
    with pytest.raises(ValueError, match="has 2 CPU cores"):
        find_workers(3, "local")
    with pytest.raises(ValueError, match="the cluster has no GPU"):
        find_workers(address="local", device="cuda")
