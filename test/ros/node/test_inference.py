# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""When the engine fails: three times in a row it is given up, and the node says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from node_rig import CAMERA, SECOND, lively_bundle, lively_occle, sensors, write_calibration

from occle_core.bundle import BundleError
from occle_core.errors import EngineError
from occle_core.frame import Frame, FrameError
from occle_core.predictor import Predictor
from occle_ros.calibration.rig import Calibration
from occle_ros.config.node_config import NodeConfig
from occle_ros.config.parameter_group import ConfigError
from occle_ros.messages.clouds import cloud_from_points
from occle_ros.messages.images import message_from_image
from occle_ros.node import inference as module
from occle_ros.node.inference import InferenceRunner, warm_up
from occle_ros.pipeline.pipeline import Pipeline
from occle_ros.sync.lidar_led import SyncedMessages


class Broken:
    """A predictor that fails after its warm-up."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor, self.frames = predictor, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._predictor, name)

    def predict(self, frame: Frame, frame_id: str = "") -> Any:
        self.frames += 1
        if self.frames > 1:
            raise RuntimeError("out of memory")
        return self._predictor.predict(frame, frame_id)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor.load(lively_bundle(tmp_path_factory.mktemp("network") / "bundle"), threads=1)


@pytest.fixture
def config(tmp_path: Path) -> NodeConfig:
    calibration = write_calibration(tmp_path / "calibration.yaml")
    return NodeConfig.model_validate({"calibration_file": str(calibration), "engine": "openvino"})


def synced(points: np.ndarray | None = None) -> SyncedMessages[Any]:
    return SyncedMessages(
        5, cloud_from_points(sensors(0)[0] if points is None else points, 5, "velodyne"), (None,), {"cam2": "no_image"}
    )


def test_three_failures_in_a_row_bring_the_fallback(
    monkeypatch: pytest.MonkeyPatch, predictor: Predictor, config: NodeConfig
) -> None:
    asked: list[str] = []

    def load(config: NodeConfig, engine: str, progress: Any) -> Any:
        asked.append(engine)
        return Broken(predictor) if engine == "openvino" else predictor

    monkeypatch.setattr(module, "load", load)
    messages: list[str] = []
    network = InferenceRunner(config, Calibration(config), messages.append, print)
    for number in range(3):
        assert asked == ["openvino"], number
        assert not network.degraded
        with pytest.raises(RuntimeError, match="out of memory"):
            network.process(synced())
    assert asked == ["openvino", "torch"]
    assert messages == [network.degraded]
    assert "3 frames in a row failed" in messages[0]
    assert "RuntimeError: out of memory" in messages[0]
    assert network.process(synced()).occupancy.stamp == 5
    # A reload tries the configured engine again.
    network.reload()
    assert asked[-1] == "openvino"
    assert not network.degraded


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (EngineError("openvino is not installed: pip install openvino"), "cannot be used: openvino is not installed: pip install"),
        (MemoryError("no room"), "cannot be used: MemoryError: no room"),
    ],
)
def test_an_engine_that_cannot_start_is_replaced_and_told(
    monkeypatch: pytest.MonkeyPatch, predictor: Predictor, config: NodeConfig, failure: Exception, words: str
) -> None:
    def load(config: NodeConfig, engine: str, progress: Any) -> Any:
        if engine == "openvino":
            progress("compiling")
            raise failure
        return predictor

    monkeypatch.setattr(module, "load", load)
    messages: list[str] = []
    progress: list[str] = []
    network = InferenceRunner(config, Calibration(config), messages.append, progress.append)
    assert words in network.degraded and "Using torch instead" in network.degraded
    assert messages == [network.degraded] and progress == ["compiling"]
    assert network.engine.startswith("torch fp32 on cpu")
    assert network.process(synced()).occupancy.occupied.any()
    # A reload tries it again, and is not degraded once that works.
    monkeypatch.setattr(module, "load", lambda config, engine, progress: predictor)
    network.reload()
    assert not network.degraded


def test_torch_itself_has_no_fallback(monkeypatch: pytest.MonkeyPatch, config: NodeConfig) -> None:
    def broken(config: NodeConfig, engine: str, progress: Any) -> Any:
        raise MemoryError("no room")

    monkeypatch.setattr(module, "load", broken)
    with pytest.raises(MemoryError):
        InferenceRunner(config.model_copy(update={"engine": "torch"}), Calibration(config), pytest.fail, print)


def test_precision_is_that_of_the_configured_engine_only(monkeypatch: pytest.MonkeyPatch, config: NodeConfig) -> None:
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(
        Predictor,
        "load",
        lambda folder, engine, precision, threads, report, concurrent, classes: asked.append(
            (engine, precision, threads, concurrent)
        ),
    )
    wanted = config.model_copy(update={"precision": "int8", "threads": 3, "max_concurrent_frames": 4})
    module.load(wanted, "openvino", print)
    module.load(wanted, "torch", print)
    assert asked == [("openvino", "int8", 3, 4), ("torch", "fp32", 3, 4)]


def test_a_frames_own_fault_is_not_the_engines(monkeypatch: pytest.MonkeyPatch, predictor: Predictor, config: NodeConfig) -> None:
    monkeypatch.setattr(module, "load", lambda config, engine, progress: predictor)
    network = InferenceRunner(config, Calibration(config), pytest.fail, print)
    for _ in range(5):
        with pytest.raises(FrameError):
            network.process(synced(np.zeros((0, 4), np.float32)))


def test_a_reload_that_fails_leaves_the_network_as_it_was(
    monkeypatch: pytest.MonkeyPatch, predictor: Predictor, config: NodeConfig
) -> None:
    monkeypatch.setattr(module, "load", lambda config, engine, progress: predictor)
    network = InferenceRunner(config, Calibration(config), pytest.fail, print)
    before = network.bundle_id

    def broken(config: NodeConfig, engine: str, progress: Any) -> Any:
        raise BundleError("half a file")

    monkeypatch.setattr(module, "load", broken)
    with pytest.raises(BundleError, match="half a file"):
        network.reload()
    assert network.bundle_id == before
    assert network.process(synced()).occupancy.occupied.any()


def test_classes_that_the_network_does_not_know(monkeypatch: pytest.MonkeyPatch, predictor: Predictor, config: NodeConfig) -> None:
    monkeypatch.setattr(module, "load", lambda config, engine, progress: predictor)
    wrong = config.model_copy(update={"show": config.show.model_copy(update={"classes": ("cart",)})})
    with pytest.raises(ConfigError, match=r"show\.classes: the network has no class cart"):
        InferenceRunner(wrong, Calibration(config), pytest.fail, print)
    network = InferenceRunner(config, Calibration(config), pytest.fail, print)
    with pytest.raises(ConfigError, match="no class cart"):
        network.check(wrong)


def test_the_stages_are_known_before_the_first_frame(predictor: Predictor) -> None:
    frame = Frame(0, sensors(0)[0], [None], [replace(CAMERA)])
    assert warm_up(predictor) == tuple(predictor.predict(frame).timings)


class Driving:
    """TF of a car that drives 8 m/s along x, known from the second scan on."""

    def lookup(self, target: str, source: str, stamp: int | None = None) -> np.ndarray:
        assert (target, source) == ("odom", "velodyne") and stamp is not None
        if stamp < SECOND:
            raise LookupError("no odometry yet")
        return driven(stamp)


def driven(stamp: int) -> np.ndarray:
    T = np.eye(4)
    T[0, 3] = 8 * stamp / SECOND
    return T


def test_a_network_of_several_frames_gets_poses_from_tf_and_says_where_there_are_none(tmp_path: Path) -> None:
    calibration = write_calibration(tmp_path / "calibration.yaml")
    config = NodeConfig.model_validate({"calibration_file": str(calibration)})
    folder = lively_occle(tmp_path / "occle")
    pipeline = Pipeline(Predictor.load(folder, threads=1), config, Calibration(config, Driving()))
    stamps = [9 * SECOND // 10, SECOND, 11 * SECOND // 10]
    found = []
    for number, stamp in enumerate(stamps):
        points, image = sensors(number)
        messages = cloud_from_points(points, stamp, "velodyne"), (message_from_image(image, stamp, "cam2"),)
        found.append(pipeline.process(SyncedMessages(stamp, *messages, {})))
    assert [each.occupancy.short_history for each in found] == ["no_pose", "filling", ""]
    assert "no odometry yet" in found[0].assembled.pose_problem and found[1].assembled.pose_problem == ""
    direct = Predictor.load(folder, threads=1)
    for number in (1, 2):
        points, image = sensors(number)
        frame = Frame(stamps[number], points, [image], [CAMERA], T_world_lidar=driven(stamps[number]))
        expected = direct.predict(frame)
    np.testing.assert_array_equal(found[2].occupancy.labels, expected.labels)
    np.testing.assert_array_equal(found[2].occupancy.confidence, expected.confidence)
    assert len(np.unique(expected.labels)) > 2
