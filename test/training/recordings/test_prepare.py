# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Recordings as sequences: the frames of the bag, the same bytes however often the run was killed."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bag_copies import copy_bag
from occle_train.cli import app
from occle_train.data import prepare as module
from occle_train.data.prepare import Thinning, prepare
from occle_train.pseudo_labels.unlabelled import UnlabelledDataset
from typer.testing import CliRunner

from occle_core.datasets import open_dataset
from occle_core.output_folder import OutputError

ALL = Thinning(seconds=0)


def content(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(module, "SHARD_FRAMES", 3)


def test_a_sequence_holds_the_frames_of_the_bag(recording, tmp_path, small_shards):
    (sequence,) = prepare([recording / "bag"], tmp_path / "out", recording / "rig.yaml", ALL)
    assert (sequence.frames, sequence.failed, sequence.still) == (8, (), 0)
    bag, prepared = open_dataset(recording / "bag", rig=recording / "rig.yaml"), open_dataset(tmp_path / "out", scene="bag")
    assert (
        prepared.stamps == bag.stamps and prepared.camera_names == bag.camera_names and prepared.taxonomy.name == "own_rig_classes"
    )
    assert len(list((tmp_path / "out/bag/shards").iterdir())) == 3
    for i in (0, 5):
        one, other = bag.frame(i), prepared.frame(i)
        assert np.abs(one.points - other.points).max() < 0.003 and np.allclose(one.T_world_lidar, other.T_world_lidar, atol=1e-9)
        for a, b, c, d in zip(one.images, other.images, one.cameras, other.cameras):
            assert np.array_equal(a, b) and np.allclose(c.K, d.K) and np.allclose(c.T_camera_lidar, d.T_camera_lidar, atol=1e-9)
        scan = bag.merged_scan(i)
        sensor, age = prepared.point_sources(i)
        assert np.array_equal(sensor, scan.sensor) and np.abs(age - scan.time).max() < 1e-4
        for origins in (one.origins, other.origins, bag.origins(i), UnlabelledDataset(prepared).origins(i)):
            assert np.array_equal(origins.lidar, scan.sensor) and np.allclose(origins.positions, bag.rig.lidar_positions)
    # JPEG stays JPEG, byte for byte; raw images become PNG.
    message, _ = bag.image_message(4, "left")
    assert prepared.image_file(4, "left").read_bytes() == bytes(message.data) and prepared.image_file(4, "right").suffix == ".png"


@pytest.mark.slow
def test_two_processes_give_what_one_gives(recording, tmp_path, small_shards):
    prepare([recording / "bag"], tmp_path / "one", recording / "rig.yaml", ALL)
    prepare([recording / "bag"], tmp_path / "two", recording / "rig.yaml", ALL, workers=2)
    assert content(tmp_path / "two") == content(tmp_path / "one")


def test_a_killed_run_goes_on(recording, tmp_path, small_shards):
    prepare([recording / "bag"], tmp_path / "whole", recording / "rig.yaml", ALL)
    wanted = content(tmp_path / "whole")
    # Killed within a shard: a half-written one, a temporary file and a missing shard.
    killed = tmp_path / "killed"
    prepare([recording / "bag"], killed, recording / "rig.yaml", ALL)
    os.rename(killed / "bag/shards/00001", killed / "bag/shards/.00001.partial")
    (killed / "bag/shards/.00001.partial/frames.json").unlink()
    (killed / "bag/.abc.part.json").write_text("{")
    assert len(open_dataset(killed / "bag")) == 5
    prepare([recording / "bag"], killed, recording / "rig.yaml", ALL)
    assert content(killed) == wanted


@pytest.mark.slow
def test_sigkill_at_any_moment(recording, tmp_path):
    """A process of its own, killed while it writes, again and again, then run to its end."""
    script = (
        "import sys, pathlib\nfrom occle_train.data import prepare as m\nm.SHARD_FRAMES = 1\n"
        "m.prepare([pathlib.Path(sys.argv[1])], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), m.Thinning(seconds=0))\n"
    )
    out, command = (
        tmp_path / "out",
        [sys.executable, "-c", script, str(recording / "bag"), str(tmp_path / "out"), str(recording / "rig.yaml")],
    )
    for wait in (0.02, 0.05):
        process = subprocess.Popen(command)
        while not (out / "bag/shards").is_dir() and process.poll() is None:
            time.sleep(0.002)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert subprocess.run(command, check=False).returncode == 0
    undisturbed = tmp_path / "undisturbed"
    assert subprocess.run([*command[:4], str(undisturbed), command[5]], check=False).returncode == 0
    assert content(out) == content(undisturbed)


def test_other_input_is_not_mixed_in(recording, tmp_path):
    prepare([recording / "bag"], tmp_path / "out", recording / "rig.yaml", ALL)
    with pytest.raises(OutputError, match="was prepared from another recording, rig file or thinning"):
        prepare([recording / "bag"], tmp_path / "out", recording / "rig.yaml", Thinning(metres=5))
    with pytest.raises(OutputError, match="two recordings are called bag"):
        prepare([recording / "bag", recording / "bag"], tmp_path / "out", recording / "rig.yaml")


def test_frames_that_fail_are_listed_and_a_standing_robot_is_thinned(recording, tmp_path):
    count = iter(range(100))

    def damaged(topic, message):
        if topic == "/top/points" and next(count) == 2:
            return replace(message, data=message.data[:1000])
        if topic == "/left/image/compressed" and message.header.stamp.nanosec == 500_000_000:
            return replace(message, data=message.data[:200])
        return message

    bag = copy_bag(recording / "bag", tmp_path / "damaged", change=damaged)
    (sequence,) = prepare([bag], tmp_path / "out", recording / "rig.yaml", ALL)
    assert (
        sequence.frames == 7
        and len(sequence.failed) == 1
        and "frame 2 at" in sequence.failed[0]
        and "truncated" in sequence.failed[0]
    )
    prepared = open_dataset(tmp_path / "out")
    assert prepared.numbers == [0, 1, 3, 4, 5, 6, 7] and prepared.frame(4).images[0] is None
    (thinned,) = prepare(
        [recording / "bag"], tmp_path / "thin", recording / "rig.yaml", Thinning(metres=0.5, degrees=90, seconds=60)
    )
    places = np.array([open_dataset(tmp_path / "thin").pose(i)[:3, 3] for i in range(thinned.frames)])
    assert thinned.still > 0 and (np.linalg.norm(np.diff(places, axis=0), axis=1) >= 0.5).all()


def test_the_command(recording, tmp_path):
    out = str(tmp_path / "out")
    done = CliRunner().invoke(app, ["prepare", str(recording / "bag"), out, "--rig", str(recording / "rig.yaml"), "--seconds", "0"])
    assert done.exit_code == 0 and "8 frames, 0 of a standing robot left out" in " ".join(done.output.split())
    for arguments, message in ((["prepare", out], "--rig"), (["prepare", out, "--rig", "no.yaml"], "BAG... OUT --rig rig.yaml")):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code and message in done.output
