# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle doctor`: checks the input topics of the node, and reports problems with their remedies."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from occle_core.bundle import BundleError, read_spec
from occle_core.geometry.grid import VoxelGrid
from occle_core.plausibility import placement_problem, view_problem
from occle_core.sensors.images import image_from_message
from occle_core.sensors.messages import ConversionError, stamp_of
from occle_ros.calibration.calibrated_rig import CalibratedRig
from occle_ros.calibration.files import CalibrationError
from occle_ros.calibration.rig import Calibration
from occle_ros.calibration.tf_listener import listen_to_transforms
from occle_ros.config.node_config import MAIN_LIDAR, NodeConfig, absolute_topic, resolve_topics
from occle_ros.config.parameter_group import ConfigError
from occle_ros.messages.common import message_class
from occle_ros.node.input_monitor import clock_problem
from occle_ros.pipeline.assemble import frame_mismatch
from occle_ros.pipeline.scans import describe_dropped, read_scan, scan_intensity_problem
from occle_ros.system.environment import profile_variable
from occle_ros.system.ros_process import ros_node
from occle_ros.tools.pose_listener import PoseListener, PoseSource
from occle_ros.tools.topic_listener import ClockListener, TopicListener, TopicReport
from occle_ros.topics.inputs import InputTopic, Problem, diagnose_silence, input_topics
from occle_ros.topics.qos import publisher_qos, qos_mismatch

_DISCOVERY_SECONDS = 2.0
_GRAPH = "the configuration"


@dataclass(frozen=True)
class TopicProblem:
    """Problem of a topic."""

    topic: str
    problem: Problem


@dataclass
class Diagnosis:
    """Result of `diagnose`.

    Args:
        topics: the state of each topic.
        problems: with their remedies.
        clock: the clock of the stamps, and the setting for it.
        notes: information without a problem.
    """

    topics: list[TopicReport] = field(default_factory=list)
    problems: list[TopicProblem] = field(default_factory=list)
    clock: str = ""
    notes: list[str] = field(default_factory=list)

    def add(self, topic: str, *problems: Problem | None) -> None:
        """Add the problems of a topic."""
        self.problems += [TopicProblem(topic, problem) for problem in problems if problem is not None]


def diagnose(config: NodeConfig, seconds: float = 5.0, topics: Sequence[str] = (), namespace: str = "") -> Diagnosis:
    """Subscribe to the input topics of a configuration and check their messages.

    Args:
        config: the node's configuration.
        seconds: duration, after up to two seconds for the discovery of publishers.
        topics: check these topics instead, of any type, without calibration and synchronisation.
        namespace: of the node whose inputs are checked.
    """
    with ros_node("occle_doctor") as node:
        found = Diagnosis()
        config = resolve_topics(config, lambda topic: absolute_topic(topic, namespace))
        inputs = _named_inputs(node, config, topics, found) if topics else input_topics(config)
        calibration, transforms = (None, None) if topics else _calibration(node, config, found)
        clock = ClockListener(node)
        executor = SingleThreadedExecutor(context=node.context)
        executor.add_node(node)
        _wait_for_publishers(node, inputs, _DISCOVERY_SECONDS)
        listeners = [TopicListener(node, wanted, config, clock) for wanted in inputs]
        mounted = calibration.mounted if calibration else None
        poses = PoseListener(transforms, config, clock, mounted[0] if mounted else "")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            executor.spin_once(timeout_sec=0.05)
            poses.sample(listeners[0].last if listeners else None)
        found.clock = clock.summary()
        rig = _rig(calibration, listeners, found) if calibration else None
        for listener in listeners:
            found.topics.append(listener.report(node))
            found.add(listener.wanted.topic, *_transport_problems(node, listener, config, clock))
            if listener.last is not None:
                found.topics[-1].content, problem = _content(listener, config, rig)
                found.add(listener.wanted.topic, problem)
            if rig and listener.wanted.camera and not listener.wanted.once:
                found.add(listener.wanted.topic, *_camera_problems(listener, listeners[0], rig, config, found.topics[-1]))
        if calibration and listeners[0].stamps:
            note, problem = poses.verdict(listeners[0].stamps)
            # A node without a map, and a network that looks at one frame, need no poses.
            if problem and config.map.update == "always":
                found.add(_GRAPH, problem)
            else:
                found.notes.append(f"{note}{f': {problem}' if problem else ''}")
        executor.shutdown()
    return found


def _named_inputs(node: Node, config: NodeConfig, topics: Sequence[str], found: Diagnosis) -> list[InputTopic]:
    configured = {node.resolve_topic_name(wanted.topic): wanted for wanted in input_topics(config)}
    end = time.monotonic() + _DISCOVERY_SECONDS
    inputs = []
    for topic in map(node.resolve_topic_name, topics):
        kinds: Sequence[str] = ()
        while topic not in configured and not kinds and time.monotonic() < end:
            kinds = dict(node.get_topic_names_and_types()).get(topic, ())
            time.sleep(0.05)
        message = message_class(kinds[0]) if kinds else None
        if topic in configured:
            inputs.append(configured[topic])
        elif message is not None:
            inputs.append(InputTopic(kinds[0], topic, message, "lidar.topic or cameras.<name>.topic"))
        elif kinds:
            found.add(topic, Problem(f"its message type {kinds[0]} is not installed", "install the package of that type"))
        else:
            found.add(topic, Problem(f"no publisher of {topic}", "`ros2 topic list -t` lists the topics"))
    return inputs


def _calibration(node: Node, config: NodeConfig, found: Diagnosis) -> tuple[Calibration | None, PoseSource | None]:
    try:
        calibration = Calibration(config)
    except (CalibrationError, ConfigError) as error:
        found.add(_GRAPH, Problem(str(error)))
        return None, None
    transforms = None
    try:
        transforms = listen_to_transforms(node)
        calibration.use_transforms(transforms)
    except ImportError as error:
        if calibration.needs_transforms:
            text = f"part of the calibration has to come from TF, which cannot be received ({error})"
            found.add(_GRAPH, Problem(text, "set parameter calibration_file (`occle bag` writes one into every bag folder)"))
    return calibration, transforms


def _wait_for_publishers(node: Node, inputs: Sequence[InputTopic], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not all(node.count_publishers(wanted.topic) for wanted in inputs):
        time.sleep(0.05)


def _rig(calibration: Calibration, listeners: Sequence[TopicListener], found: Diagnosis) -> CalibratedRig | None:
    for listener in listeners:
        if listener.wanted.once and listener.last is not None:
            calibration.add_camera_info(listener.wanted.camera, listener.last)
    scan = listeners[0].last
    try:
        rig = calibration.rig("") if scan is None else calibration.rig(scan.header.frame_id, stamp_of(scan))
    except CalibrationError as error:
        if scan is not None:
            remedy = "start the publisher of that transform, or set parameter calibration_file"
            found.add(_GRAPH, Problem(str(error), "" if "set parameter" in str(error) else remedy))
        return None
    found.notes += rig.notes
    return rig


def _transport_problems(node: Node, listener: TopicListener, config: NodeConfig, clock: ClockListener) -> list[Problem | None]:
    if not listener.arrivals:
        return [diagnose_silence(node, listener.wanted, listener.requested)]
    offers = [qos_mismatch(offer, listener.requested) for offer in publisher_qos(node, listener.topic)]
    problems: list[Problem | None] = [Problem(f"a publisher {why[0]}", why[1]) for why in offers[:1] if why]
    if listener.stamps and not any(listener.stamps):
        return [*problems, Problem("all stamps are 0", "set header.stamp to the time of the measurement in the driver")]
    if listener.wanted.once or listener.age is None:
        return problems
    if clock.simulated is not None:
        far = abs(listener.age) > 10
        text = f"stamps differ from /clock by {listener.age:.0f} s"
        problems.append(Problem(text, "play the topic and /clock from the same bag") if far else None)
    else:
        problems.append(clock_problem(listener.age, node.count_publishers("/clock")))
    limit = config.diagnostics.latency_error_ms / 1e3
    if limit < listener.age <= 10:
        text = f"messages are {listener.age:.1f} s old at their arrival"
        problems.append(Problem(text, "set the sensor's clock (PTP, NTP); if that is right, use shared memory on the sending side: "
                                      f"{profile_variable()}=<share/occle_ros>/config/fastdds_shm.xml"))  # fmt: skip
    return problems


def _content(listener: TopicListener, config: NodeConfig, rig: CalibratedRig | None) -> tuple[str, Problem | None]:
    """Content of the last message as text, and its problem, if any."""
    message = listener.last
    try:
        if isinstance(message, PointCloud2):
            name, T_grid_lidar = listener.wanted.lidar or MAIN_LIDAR, rig.T_grid_lidar if rig else None
            further = config.lidars.get(name)
            if further is not None:
                # A mounting from TF is not looked up: the box is then not applied.
                known = T_grid_lidar is not None and further.T_lidar
                T_grid_lidar = T_grid_lidar @ np.reshape(further.T_lidar, (4, 4)) if known else None
            points, dropped = read_scan(message, config, T_grid_lidar, listener.topic, name)
            words = f"{len(points)} points" + (f", dropped: {describe_dropped(dropped)}" if dropped else "")
            if not len(points):
                why = f"no point of the last scan is left: {describe_dropped(dropped)}" if dropped else "the last scan is empty"
                return words, Problem(why, "check that the sensor is running and not covered, and parameter lidar.exclude_box")
            advice = scan_intensity_problem(points, config, name)
            if not advice and rig and not further and (grid := _grid(config)):
                advice = placement_problem(points, rig.T_grid_lidar, grid)
            return words, Problem(advice) if advice else None
        if isinstance(message, (Image, CompressedImage)):
            image = image_from_message(message, listener.topic)
            encoding = message.encoding if isinstance(message, Image) else message.format
            return f"{image.shape[1]} x {image.shape[0]} {encoding}", None
    except ConversionError as error:
        return "unreadable", Problem(str(error))
    if isinstance(message, CameraInfo):
        distortion = message.distortion_model if np.any(message.d) else "no distortion"
        return f"{message.width} x {message.height}, {distortion}", None
    return "", None


def _grid(config: NodeConfig) -> VoxelGrid | None:
    """The network's grid; None where its bundle cannot be read, which the node reports."""
    try:
        return read_spec(config.bundle_dir()).voxel_grid
    except (BundleError, ConfigError):
        return None


def _camera_problems(
    listener: TopicListener, scans: TopicListener, rig: CalibratedRig, config: NodeConfig, row: TopicReport
) -> list[Problem | None]:
    """Problems of one camera: calibration, image size, synchronisation."""
    name = listener.wanted.camera
    number = config.camera_names.index(name)
    lens = rig.lenses[number]
    row.calibration = rig.masked.get(name, "known")
    if name in rig.problems and row.calibration != "no_camera_info":  # reported as a silent CameraInfo topic
        return [Problem(rig.problems[name])]
    problems: list[Problem | None] = []
    if listener.last is not None and (note := frame_mismatch(name, listener.last.header.frame_id, rig.tf_frames[number])):
        problems.append(Problem(note))
    if lens is not None and listener.last is not None and row.content != "unreadable":
        try:
            lens.rectify(image_from_message(listener.last), listener.topic)
        except ConversionError as error:
            problems.append(Problem(str(error)))
    camera = rig.cameras[number]
    if camera is not None and scans.last is not None:
        with suppress(ConversionError):  # of the scan, which is reported with its topic
            problem = view_problem(read_scan(scans.last, config, None)[0], camera, name)
            problems.append(Problem(problem) if problem else None)
    offset = config.cameras[name].time_offset_ms
    differences = [_nearest(listener.stamps, stamp - round(offset * 1e6)) for stamp in scans.stamps if listener.stamps]
    # The median, as the first and last scans may lack their image.
    middle = float(np.median(differences)) / 1e6 if differences else math.nan
    if abs(middle) > config.sync.tolerance_ms:
        text = f"images are {middle:+.0f} ms from the nearest scans, more than sync.tolerance_ms ({config.sync.tolerance_ms:g} ms)"
        fits = abs(offset - middle) <= 1000
        remedy = f"set parameter cameras.{name}.time_offset_ms:={offset - middle:.1f} if that is the cameras' constant delay"
        problems.append(Problem(text, remedy if fits else "give the sensors one clock (PTP, NTP)"))
    return problems


def _nearest(stamps: Sequence[int], stamp: int) -> int:
    at = bisect_left(stamps, stamp)
    return min((other - stamp for other in stamps[max(at - 1, 0) : at + 1]), key=abs)
