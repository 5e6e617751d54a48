"""`occle doctor`: listens for some seconds and says, for every topic that the node needs, what is wrong and what mends it."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from occle_core.sensors.clouds import intensity_problem
from occle_core.sensors.images import image_from_message
from occle_core.sensors.messages import ConversionError, stamp_of
from occle_ros.calibration.files import CalibrationError
from occle_ros.calibration.rig import CalibratedRig, Calibration
from occle_ros.calibration.tf_listener import listen_to_transforms
from occle_ros.config.groups import ConfigError
from occle_ros.config.node_config import NodeConfig
from occle_ros.messages.common import message_class
from occle_ros.node.input_monitor import clock_problem
from occle_ros.pipeline.assemble import describe_dropped, other_frame, read_scan
from occle_ros.system.ros_process import ros_node
from occle_ros.tools.topic_listener import ClockListener, Row, TopicListener
from occle_ros.topics.inputs import Input, Problem, inputs_of, why_silent
from occle_ros.topics.qos import mismatch, offers_on

_DISCOVERY_SECONDS = 2.0
_GRAPH = "the configuration"


@dataclass(frozen=True)
class Finding:
    """Something wrong, with the topic that it is about."""

    topic: str
    problem: Problem


@dataclass
class Diagnosis:
    """Everything that `doctor` found.

    Args:
        rows: one per topic.
        findings: what is wrong; empty where all is well.
        clock: which clock the stamps go by.
        notes: what is not wrong, but good to know.
    """

    rows: list[Row] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    clock: str = ""
    notes: list[str] = field(default_factory=list)

    def add(self, topic: str, *problems: Problem | None) -> None:
        """Note what is wrong with a topic, if anything."""
        self.findings += [Finding(topic, problem) for problem in problems if problem is not None]


def doctor(config: NodeConfig, seconds: float = 5.0, topics: Sequence[str] = ()) -> Diagnosis:
    """Listen to the topics that a configuration needs, and judge what comes.

    Args:
        config: the node's configuration.
        seconds: how long to listen, after up to two seconds in which publishers are looked for.
        topics: look at these instead, of any type; calibration and matching are then left out.
    """
    with ros_node("occle_doctor") as node:
        found = Diagnosis()
        inputs = _named_inputs(node, config, topics, found) if topics else inputs_of(config)
        calibration = None if topics else _calibration(node, config, found)
        clock = ClockListener(node)
        executor = SingleThreadedExecutor(context=node.context)
        executor.add_node(node)
        _wait_for_publishers(node, inputs, _DISCOVERY_SECONDS)
        ears = [TopicListener(node, wanted, config, clock) for wanted in inputs]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            executor.spin_once(timeout_sec=0.05)
        found.clock = clock.words()
        rig = _rig(calibration, ears, found) if calibration else None
        for ear in ears:
            found.rows.append(ear.row(node))
            found.add(ear.wanted.topic, *_transport_problems(node, ear, config, clock))
            if ear.last is not None:
                found.rows[-1].content, problem = _content(ear, config, rig)
                found.add(ear.wanted.topic, problem)
            if rig and ear.wanted.camera and not ear.wanted.once:
                found.add(ear.wanted.topic, *_camera_problems(ear, ears[0], rig, config, found.rows[-1]))
        executor.shutdown()
    return found


def _named_inputs(node: Node, config: NodeConfig, topics: Sequence[str], found: Diagnosis) -> list[Input]:
    configured = {node.resolve_topic_name(wanted.topic): wanted for wanted in inputs_of(config)}
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
            inputs.append(Input(kinds[0], topic, message, "lidar.topic or cameras.<name>.topic"))
        elif kinds:
            found.add(topic, Problem(f"its type {kinds[0]} is not installed here", "install the package of that message"))
        else:
            found.add(topic, Problem(f"nobody publishes {topic}", "`ros2 topic list -t` shows what there is"))
    return inputs


def _calibration(node: Node, config: NodeConfig, found: Diagnosis) -> Calibration | None:
    try:
        calibration = Calibration(config)
    except (CalibrationError, ConfigError) as error:
        found.add(_GRAPH, Problem(str(error)))
        return None
    try:
        calibration.use_transforms(listen_to_transforms(node))
    except ImportError as error:
        if calibration.needs_transforms:
            text = f"part of the calibration has to come from TF, which this Python cannot receive ({error})"
            found.add(_GRAPH, Problem(text, "set parameter calibration_file (`occle bag` writes one beside every bag)"))
    return calibration


def _wait_for_publishers(node: Node, inputs: Sequence[Input], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not all(node.count_publishers(wanted.topic) for wanted in inputs):
        time.sleep(0.05)


def _rig(calibration: Calibration, ears: Sequence[TopicListener], found: Diagnosis) -> CalibratedRig | None:
    for ear in ears:
        if ear.wanted.once and ear.last is not None:
            calibration.take_info(ear.wanted.camera, ear.last)
    scan = ears[0].last
    try:
        rig = calibration.rig("") if scan is None else calibration.rig(scan.header.frame_id, stamp_of(scan))
    except CalibrationError as error:
        if scan is not None:
            remedy = "start the publisher of that transform, or set parameter calibration_file"
            found.add(_GRAPH, Problem(str(error), "" if "set parameter" in str(error) else remedy))
        return None
    found.notes += rig.notes
    return rig


def _transport_problems(node: Node, ear: TopicListener, config: NodeConfig, clock: ClockListener) -> list[Problem | None]:
    if not ear.arrivals:
        return [why_silent(node, ear.wanted, ear.asked)]
    offers = [mismatch(offer, ear.asked) for offer in offers_on(node, ear.topic)]
    problems: list[Problem | None] = [Problem(f"a publisher {why[0]}", why[1]) for why in offers[:1] if why]
    if ear.stamps and not any(ear.stamps):
        return [*problems, Problem("all stamps are 0", "let the driver set header.stamp to the time of the measurement")]
    if ear.wanted.once or ear.age is None:
        return problems
    if clock.simulated is not None:
        far = abs(ear.age) > 10
        text = f"stamps are {ear.age:.0f} s away from /clock"
        problems.append(Problem(text, "play the topic and /clock from the same bag") if far else None)
    else:
        problems.append(clock_problem(ear.age, node.count_publishers("/clock")))
    limit = config.latency.error_ms / 1e3
    if limit < ear.age <= 10:
        text = f"messages are {ear.age:.1f} s old when they come"
        problems.append(Problem(text, "set the sensor's clock (PTP, NTP); if that is right, use shared memory on the sending side: "
                                      "FASTDDS_DEFAULT_PROFILES_FILE=<share/occle_ros>/config/fastdds_shm.xml"))  # fmt: skip
    return problems


def _content(ear: TopicListener, config: NodeConfig, rig: CalibratedRig | None) -> tuple[str, Problem | None]:
    """What the last message holds in words, and why it cannot be used."""
    message = ear.last
    try:
        if isinstance(message, PointCloud2):
            points, dropped = read_scan(message, config, rig.T_grid_lidar if rig else None, ear.topic)
            words = f"{len(points)} points" + (f", left out: {describe_dropped(dropped)}" if dropped else "")
            if not len(points):
                why = f"no point of the last scan is left: {describe_dropped(dropped)}" if dropped else "the last scan is empty"
                return words, Problem(why, "see whether the sensor turns and is not covered, and parameter lidar.exclude_box")
            advice = intensity_problem(points, config.lidar.intensity_scale)
            return words, Problem(advice) if advice else None
        if isinstance(message, (Image, CompressedImage)):
            image = image_from_message(message, ear.topic)
            encoding = message.encoding if isinstance(message, Image) else message.format
            return f"{image.shape[1]} x {image.shape[0]} {encoding}", None
    except ConversionError as error:
        return "unreadable", Problem(str(error))
    if isinstance(message, CameraInfo):
        distortion = message.distortion_model if np.any(message.d) else "no distortion"
        return f"{message.width} x {message.height}, {distortion}", None
    return "", None


def _camera_problems(
    ear: TopicListener, scans: TopicListener, rig: CalibratedRig, config: NodeConfig, row: Row
) -> list[Problem | None]:
    """Calibration, image size and matching of one camera."""
    name = ear.wanted.camera
    number = config.camera_names.index(name)
    lens = rig.lenses[number]
    row.calibration = rig.unknown.get(name, "known")
    if name in rig.problems and row.calibration != "no_camera_info":  # a silent CameraInfo topic is its own finding
        return [Problem(rig.problems[name])]
    problems: list[Problem | None] = []
    if ear.last is not None and (note := other_frame(name, ear.last.header.frame_id, rig.tf_frames[number])):
        problems.append(Problem(note))
    if lens is not None and ear.last is not None and row.content != "unreadable":
        try:
            lens.rectify(image_from_message(ear.last), ear.topic)
        except ConversionError as error:
            problems.append(Problem(str(error)))
    offset = config.cameras[name].time_offset_ms
    differences = [_nearest(ear.stamps, stamp - round(offset * 1e6)) for stamp in scans.stamps if ear.stamps]
    # The first and last scans may lack their image only because listening began or ended.
    middle = float(np.median(differences)) / 1e6 if differences else math.nan
    if abs(middle) > config.sync.tolerance_ms:
        text = f"images are {middle:+.0f} ms from the nearest scans, more than sync.tolerance_ms ({config.sync.tolerance_ms:g} ms)"
        fits = abs(offset - middle) <= 1000
        mend = f"set parameter cameras.{name}.time_offset_ms:={offset - middle:.1f} if that is the cameras' constant delay"
        problems.append(Problem(text, mend if fits else "give the sensors one clock (PTP, NTP)"))
    return problems


def _nearest(stamps: Sequence[int], stamp: int) -> int:
    at = bisect_left(stamps, stamp)
    return min((other - stamp for other in stamps[max(at - 1, 0) : at + 1]), key=abs)
