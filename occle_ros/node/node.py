# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The live node: a lifecycle node that connects subscriptions, inference and publishers."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node

from occle_core.frame import FrameError
from occle_core.paths import expand_home
from occle_core.sensors.messages import ConversionError
from occle_ros.calibration.calibrated_rig import TransformLookup
from occle_ros.calibration.files import CalibrationError
from occle_ros.calibration.lidars import LidarPoses
from occle_ros.calibration.rig import Calibration
from occle_ros.config.node_config import NodeConfig, resolve_topics
from occle_ros.config.parameter_files import NODE_NAME
from occle_ros.config.ros_parameters import EmptyListParameters, declare_config, register_parameter_callback
from occle_ros.mapping.runner import MapRunner
from occle_ros.node.diagnostics import Diagnostics
from occle_ros.node.inference import STARTUP_ERRORS, InferenceRunner
from occle_ros.node.publishers import Publishers
from occle_ros.node.services import Services
from occle_ros.node.subscriptions import ReceivedScan, Subscriptions, without_arrival
from occle_ros.node.throttle import LogThrottle
from occle_ros.node.worker import CompletionCallback, Worker
from occle_ros.pipeline.pipeline import ProcessedFrame, count_losses
from occle_ros.pipeline.statistics import Statistics
from occle_ros.sync.lidar_led import SyncedMessages
from occle_ros.topics import outputs

STOP_SECONDS = 1.0
_EXPECTED = {FrameError: "unusable_frame", ConversionError: "unreadable_message", CalibrationError: "no_calibration"}


class OccupancyNode(EmptyListParameters, LifecycleNode):
    """Lifecycle node: subscribes to the LiDARs and the cameras, publishes the topics of `occle_ros.topics.outputs`.

    `configure` loads the network and warms it up; `activate` creates publishers and subscriptions, so that a node with
    subscriptions is ready; `deactivate` destroys them.

    Raises:
        ConfigError: invalid parameters.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(NODE_NAME, automatically_declare_parameters_from_overrides=True, **arguments)
        self.config = resolve_topics(declare_config(self), self.resolve_topic_name)
        self.statistics = Statistics()
        self.inference: InferenceRunner | None = None
        self.inputs: Subscriptions | None = None
        self.map: MapRunner | None = None
        self.problem: Exception | None = None
        self._calibration: Calibration | None = None
        self._poses: LidarPoses | None = None
        self._transforms: TransformLookup | None = None
        self._outputs: Publishers | None = None
        self._worker: Worker[SyncedMessages[ReceivedScan, Any]] | None = None
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._log_throttle = LogThrottle()
        self._noted: set[str] = set()
        self._has_tf = True
        self._viewers = 0
        Diagnostics(self, self, self._steady)
        register_parameter_callback(self, self.config, self._accept)
        Services(self, self, self._log_info, self._log_error)
        self.create_timer(0.25, self._check_viewers, clock=self._steady)
        self.create_timer(1.0, self._check_inputs, clock=self._steady)

    def start(self, activate: bool = True) -> None:
        """Configure and activate, as a lifecycle manager would.

        Raises:
            ConfigError, CalibrationError, BundleError: the configuration cannot run.
        """
        for transition in (self.trigger_configure, self.trigger_activate)[: 2 if activate else 1]:
            self.problem = None
            if transition() != TransitionCallbackReturn.SUCCESS:
                raise self.problem or RuntimeError("a lifecycle transition failed")

    def destroy_node(self) -> None:
        """Destroy the node and its state machine, which rclpy leaves.

        The state machine would keep the DDS participant, whose shared memory (70 MB) would outlive the process.
        """
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()

    def stop(self) -> bool:
        """Stop the worker and write the report; False if the worker did not stop in time."""
        stopped = self._deactivate()
        if self.config.report_file:
            header = {"bundle": self.inference.bundle_id if self.inference else ""}
            try:
                self.statistics.write(expand_home(self.config.report_file), header)
            except OSError as error:
                self.get_logger().error(f"the report cannot be written: {error}; see parameter report_file")
        return stopped

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the bundle and warm it up."""
        return self._attempt(self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Create publishers, then subscriptions."""
        return self._attempt(self._activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Destroy subscriptions and publishers."""
        return self._attempt(self._deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unload the network."""
        return self._attempt(self._release)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Destroy everything, from any state."""
        return self._attempt(self._release)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Return to the unconfigured state after an unexpected error."""
        return self._attempt(self._release)

    def _attempt(self, step: Callable[[], object]) -> TransitionCallbackReturn:
        """Run a transition and log its exception, which rclpy would swallow."""
        try:
            step()
        except STARTUP_ERRORS as error:
            self.problem = error
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        except Exception as error:
            self.problem = error
            self.get_logger().error(traceback.format_exc())
            return TransitionCallbackReturn.ERROR
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        calibration = Calibration(self.config)
        if calibration.needs_transforms and not self.config.build_only:  # which processes no frame
            calibration.use_transforms(self._tf())
        self._poses = LidarPoses(self.config, calibration)
        self.inference = InferenceRunner(self.config, calibration, self._log_error, self._log_info, self._poses)
        if self.inference.frames > 1 and not calibration.needs_transforms:
            self._use_poses(calibration, self.inference.frames)
        self._calibration = calibration
        self.get_logger().info(f"configured: bundle {self.inference.bundle_id}, engine {self.inference.engine}")

    def _use_poses(self, calibration: Calibration, frames: int) -> None:
        """Use TF for the poses that a network with a history needs; without TF every frame is processed alone."""
        try:
            calibration.use_transforms(self._tf())
        except CalibrationError:
            self.get_logger().warning(
                f"the network has a history of {frames} frames and needs their poses from TF, but tf2_msgs is not installed (it is "
                "part of a ROS installation): every frame is processed alone"
            )

    def _activate(self) -> None:
        assert self.inference is not None and self._calibration is not None and self._poses is not None
        self._outputs = Publishers(self, self.config, self.statistics, self.inference.stages)
        cell = self.inference.cell
        self.map = MapRunner(self, self.config, self.inference.taxonomy, cell, self.statistics, self._tf)
        self._worker = Worker(self._work, self._on_error, "occupancy", self.inference.max_concurrent)
        self.inputs = Subscriptions(self, self.config, self._calibration, self._poses, self.statistics, self._steady, self._submit)
        self.get_logger().info(f"ready: bundle {self.inference.bundle_id}, waiting for {self.config.lidar.topic}")

    def _deactivate(self) -> bool:
        """True if the frame in progress has finished in time."""
        if self.inputs:
            self.inputs.close()
        stopped = self._worker.stop(STOP_SECONDS) if self._worker else True
        if self.map:
            self.map.close(0.5)
        if self._outputs:
            self._outputs.close(0.3)
        self.inputs = self._worker = self._outputs = self.map = None
        return stopped

    def _release(self) -> None:
        self._deactivate()
        self.inference = self._calibration = self._poses = None

    def _accept(self, config: NodeConfig) -> None:
        config = resolve_topics(config, self.resolve_topic_name)
        if self.inference:
            self.inference.check(config)
        self.config = config
        if self._outputs:
            self._outputs.config = config
        if self.map:
            self.map.reconfigure(config)
        if self.inputs:
            self.inputs.set_timeout(config.diagnostics.input_timeout_s)

    def _check_viewers(self) -> None:
        self._use_transforms_for_scans()
        if self.map:
            self.map.check()
        if not self._outputs or not self.inputs:
            return
        viewers = self._outputs.subscriber_count(outputs.VOXELS)
        if viewers != self._viewers:
            self._viewers = viewers
            self.get_logger().info(f"{viewers} subscribers of voxels")
        newest = max(self.inputs.last_scan, *self.inputs.last_lidar.values(), 0.0)
        if time.monotonic() - newest > self.config.diagnostics.input_timeout_s:
            self._outputs.clear_markers()

    def _use_transforms_for_scans(self) -> None:
        """Use TF once a scan needs it: its frame is not the calibration file's, it is to be compensated for motion, or merged."""
        calibration = self._calibration
        if calibration is None or calibration.has_transforms or not calibration.needs_transforms or not self._has_tf:
            return
        try:
            calibration.use_transforms(self._tf())
        except CalibrationError:  # the error of each frame names the remedy
            self._has_tf = False

    def _tf(self) -> TransformLookup:
        """TF, listened to from the first call on; CalibrationError where it cannot be received."""
        self._transforms = self._transforms or _transforms(self)
        return self._transforms

    def _check_inputs(self) -> None:
        for warning in self.inputs.check() if self.inputs else []:
            self.get_logger().warning(warning)

    # Two methods: rclpy allows one severity per line of code that logs.
    def _log_error(self, text: str) -> None:
        self.get_logger().error(text)

    def _log_info(self, text: str) -> None:
        self.get_logger().info(text)

    def _submit(self, frame: SyncedMessages[ReceivedScan, Any]) -> None:
        if self._worker and self._worker.submit(frame) is not None:
            self.statistics.count("dropped", "replaced_by_newer")

    def _work(self, synced: SyncedMessages[ReceivedScan, Any]) -> CompletionCallback | None:
        inference, scan = self.inference, synced.lead
        if inference is None:
            return None  # deactivated in the meantime
        waited = (time.perf_counter() - scan.arrived) * 1e3
        processed = inference.process(without_arrival(synced))
        return partial(self._publish, synced, processed, waited, time.perf_counter())

    def _publish(
        self, synced: SyncedMessages[ReceivedScan, Any], processed: ProcessedFrame, waited: float, processed_at: float
    ) -> None:
        outputs, world, scan = self._outputs, self.map, synced.lead
        if outputs is None or world is None:
            return  # deactivated in the meantime
        began = time.perf_counter()
        outputs.publish(processed)
        world.offer(processed)
        published = (time.perf_counter() - began) * 1e3
        # By the node's clock until the arrival, then in real time: /clock ends with the bag, before its last frame is published.
        latency = scan.age_ms + (time.perf_counter() - scan.arrived) * 1e3
        stages = {"receive": scan.age_ms, "wait": waited, **processed.occupancy.timings}
        stages |= {"reorder_wait": (began - processed_at) * 1e3, "publish": published}
        self.statistics.frame_done(time.monotonic(), latency, stages, synced.stamp)
        count_losses(processed, self.statistics)
        self._log_losses(processed)
        outputs.publish_timings(latency, stages)

    def _log_losses(self, processed: ProcessedFrame) -> None:
        """Log masked cameras and missing history, throttled, and each note once."""
        for note in processed.assembled.notes:
            if note not in self._noted:
                self._noted.add(note)
                self.get_logger().warning(note)
        for subject, warning in processed.assembled.warnings.items():
            if subject not in self._noted:
                self._noted.add(subject)
                self.get_logger().warning(warning)
        for found in processed.assembled.found:
            if found not in self._noted:
                self._noted.add(found)
                self._log_info(found)
        if (why := processed.assembled.deskew) and self._log_throttle.should_log(f"deskew:{why}"):
            self.get_logger().warning(f"scans are not compensated for motion: {processed.assembled.deskew_problem}")
        for name, problem in processed.assembled.problems.items():
            if self._log_throttle.should_log(problem):
                self.get_logger().warning(f"{name} is masked: {problem}")
        reason = processed.occupancy.short_history
        if reason not in ("", "filling") and self._log_throttle.should_log(reason):
            why = processed.assembled.pose_problem or "the scan is older than the previous one, or more than a second newer"
            self.get_logger().warning(f"frame without history: {why}")

    def _on_error(self, synced: SyncedMessages[ReceivedScan, Any], error: Exception) -> None:
        expected = next((reason for kind, reason in _EXPECTED.items() if isinstance(error, kind)), None)
        self.statistics.count("dropped", expected or "internal_error")
        problem = str(error) if expected else f"{type(error).__name__}: {error}"
        text = f"scan {synced.stamp / 1e9:.3f}: {problem}"
        self.statistics.error(text)
        if self._log_throttle.should_log(problem):
            where = "" if expected else "\n" + "".join(traceback.format_exception(error))
            self.get_logger().error(text + where)


def _transforms(node: Node) -> TransformLookup:
    try:
        from occle_ros.calibration.tf_listener import listen_to_transforms

        return listen_to_transforms(node)
    except ImportError as error:
        raise CalibrationError(
            f"part of the calibration has to come from TF, which cannot be received ({error}); set parameter "
            "calibration_file (`occle bag` writes one into every bag folder), or T_grid_lidar and cameras.<name>.T_camera_lidar"
        ) from error
