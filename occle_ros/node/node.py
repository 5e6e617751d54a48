"""The live node: messages in, voxels out. Thin on purpose: the work is done by subscriptions, network and outputs."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from occle_core.bundle import BundleError
from occle_core.frame import FrameError
from occle_core.paths import expand_home
from occle_core.sensors.messages import ConversionError
from occle_ros.calibration.files import CalibrationError
from occle_ros.calibration.rig import Calibration
from occle_ros.config.groups import ConfigError
from occle_ros.config.node_config import NodeConfig
from occle_ros.config.parameter_files import NODE_NAME
from occle_ros.config.ros_parameters import EmptyLists, declare_config, follow_changes
from occle_ros.node.diagnostics import Diagnostics
from occle_ros.node.inference import InferenceRunner
from occle_ros.node.publishers import Publishers
from occle_ros.node.subscriptions import ReceivedScan, Subscriptions
from occle_ros.node.throttle import LogThrottle
from occle_ros.node.worker import Rest, Worker
from occle_ros.pipeline.pipeline import Processed, count_losses
from occle_ros.pipeline.statistics import Statistics
from occle_ros.sync.lidar_led import SyncedMessages
from occle_ros.topics import outputs

STOP_SECONDS = 1.0
CANNOT_RUN = (ConfigError, CalibrationError, BundleError)
_EXPECTED = {FrameError: "unusable_frame", ConversionError: "unreadable_message", CalibrationError: "no_calibration"}


class OccupancyNode(EmptyLists, LifecycleNode):
    """Subscribes to one LiDAR and the cameras, publishes what `occle_ros.topics.outputs` lists.

    Configured, it holds a network that has run once; only when it is activated it subscribes: whoever waits for its
    subscriptions waits for a node that is ready. Deactivated, it neither listens nor publishes.

    Raises:
        ConfigError: the parameters are impossible.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(NODE_NAME, automatically_declare_parameters_from_overrides=True, **arguments)
        self.config = declare_config(self)
        self.statistics = Statistics()
        self.network: InferenceRunner | None = None
        self.inputs: Subscriptions | None = None
        self.problem: Exception | None = None
        self._calibration: Calibration | None = None
        self._transforms: Any = None
        self._outputs: Publishers | None = None
        self._worker: Worker[SyncedMessages[ReceivedScan]] | None = None
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._log_throttle = LogThrottle()
        self._noted: set[str] = set()
        self._has_tf = True
        self._viewers = 0
        Diagnostics(self, self, self._steady)
        follow_changes(self, self.config, self._accept)
        self.create_service(Trigger, outputs.SAVE_TIMINGS.name, self._save_timings)
        # A group of its own: while it waits for the loading thread, the default group must go on.
        group = ReentrantCallbackGroup()
        self.create_service(Trigger, outputs.RELOAD_BUNDLE.name, self._reload_bundle, callback_group=group)
        self.create_timer(0.25, self._look_around, clock=self._steady)
        self.create_timer(1.0, self._check_inputs, clock=self._steady)

    def start(self, activate: bool = True) -> None:
        """Configure and activate, as a lifecycle manager would.

        Raises:
            ConfigError, CalibrationError, BundleError: the node cannot run as it is configured.
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
        """End the worker and write the report; False if the worker did not end in time."""
        stopped = self._deactivate()
        if self.config.report_file:
            header = {"bundle": self.network.bundle_id if self.network else ""}
            try:
                self.statistics.write(expand_home(self.config.report_file), header)
            except OSError as error:
                self.get_logger().error(f"the report cannot be written: {error}")
        return stopped

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the bundle and let it run once."""
        return self._attempt(self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open the outputs, then the inputs."""
        return self._attempt(self._activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close inputs and outputs."""
        return self._attempt(self._deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the network."""
        return self._attempt(self._release)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close everything, from whatever state."""
        return self._attempt(self._release)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an unforeseen failure: as if it had never been configured."""
        return self._attempt(self._release)

    def _attempt(self, step: Callable[[], object]) -> TransitionCallbackReturn:
        """rclpy would swallow the exceptions of a transition."""
        try:
            step()
        except CANNOT_RUN as error:
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
        if calibration.needs_transforms:
            self._transforms = self._transforms or _transforms(self)
            calibration.use_transforms(self._transforms)
        self.network = InferenceRunner(self.config, calibration, self._log_error, self._log_info)
        if self.network.frames > 1 and not calibration.needs_transforms:
            self._take_poses(calibration, self.network.frames)
        self._calibration = calibration
        self.get_logger().info(f"configured: bundle {self.network.bundle_id}, engine {self.network.engine}")

    def _take_poses(self, calibration: Calibration, frames: int) -> None:
        """Poses for a network that looks back; it works without them as well, only worse."""
        try:
            self._transforms = self._transforms or _transforms(self)
        except CalibrationError:
            self.get_logger().warning(
                f"the network looks at {frames} frames, for which it needs their poses from TF, and this Python has no tf2_msgs to "
                "receive them (a ROS installation has): every frame stands alone"
            )
            return
        calibration.use_transforms(self._transforms)

    def _activate(self) -> None:
        assert self.network is not None and self._calibration is not None
        self._outputs = Publishers(self, self.config, self.statistics, self.network.stages)
        self._worker = Worker(self._work, self._on_error, "occupancy", self.network.max_concurrent)
        self.inputs = Subscriptions(self, self.config, self._calibration, self.statistics, self._steady, self._take)
        self.get_logger().info(f"ready: bundle {self.network.bundle_id}, waiting for {self.config.lidar.topic}")

    def _deactivate(self) -> bool:
        """Whether the frame that was being worked on has ended."""
        if self.inputs:
            self.inputs.close()
        stopped = self._worker.stop(STOP_SECONDS) if self._worker else True
        if self._outputs:
            self._outputs.close(0.3)
        self.inputs = self._worker = self._outputs = None
        return stopped

    def _release(self) -> None:
        self._deactivate()
        self.network = self._calibration = None

    def _accept(self, config: NodeConfig) -> None:
        if self.network:
            self.network.check(config)
        self.config = config
        if self._outputs:
            self._outputs.config = config
        if self.inputs:
            self.inputs.watch.silence = config.latency.input_timeout_s

    def _look_around(self) -> None:
        self._listen_for_foreign_scans()
        if not self._outputs or not self.inputs:
            return
        viewers = self._outputs.viewers(outputs.VOXELS)
        if viewers != self._viewers:
            self._viewers = viewers
            self.get_logger().info(f"{viewers} subscribers of voxels")
        if time.monotonic() - self.inputs.last_scan > self.config.latency.input_timeout_s:
            self._outputs.source_stopped()

    def _listen_for_foreign_scans(self) -> None:
        """Only a scan tells that it is in another frame than the calibration file is for; TF may connect the two."""
        calibration = self._calibration
        if calibration is None or calibration.has_transforms or not calibration.needs_transforms or not self._has_tf:
            return
        try:
            self._transforms = self._transforms or _transforms(self)
        except CalibrationError:  # the frames' own error says what to do
            self._has_tf = False
            return
        calibration.use_transforms(self._transforms)

    def _check_inputs(self) -> None:
        for warning in self.inputs.check() if self.inputs else []:
            self.get_logger().warning(warning)

    # rclpy allows one severity for each line that logs.
    def _log_error(self, text: str) -> None:
        self.get_logger().error(text)

    def _log_info(self, text: str) -> None:
        self.get_logger().info(text)

    def _take(self, frame: SyncedMessages[ReceivedScan]) -> None:
        if self._worker and self._worker.submit(frame) is not None:
            self.statistics.count("dropped", "replaced_by_newer")

    def _work(self, synced: SyncedMessages[ReceivedScan]) -> Rest | None:
        network, scan = self.network, synced.scan
        if network is None:
            return None  # deactivated meanwhile
        waited = (time.perf_counter() - scan.arrived) * 1e3
        processed = network.process(replace(synced, scan=scan.message))
        return partial(self._publish, synced, processed, waited, time.perf_counter())

    def _publish(self, synced: SyncedMessages[ReceivedScan], processed: Processed, waited: float, processed_at: float) -> None:
        outputs, scan = self._outputs, synced.scan
        if outputs is None:
            return  # deactivated meanwhile
        began = time.perf_counter()
        outputs.publish(processed)
        published = (time.perf_counter() - began) * 1e3
        # By the node's clock up to the arrival, then in real time: /clock ends with the bag, before its last frame is through.
        latency = scan.age_ms + (time.perf_counter() - scan.arrived) * 1e3
        stages = {"receive": scan.age_ms, "wait": waited, **processed.occupancy.timings}
        stages |= {"turn": (began - processed_at) * 1e3, "publish": published}
        self.statistics.frame_done(time.monotonic(), latency, stages, synced.stamp)
        count_losses(processed, self.statistics)
        self._log_losses(processed)
        outputs.publish_times(latency, stages)

    def _log_losses(self, processed: Processed) -> None:
        """Warn of problems that have a remedy, and of what is good to know once."""
        for note in processed.notes:
            if note not in self._noted:
                self._noted.add(note)
                self.get_logger().warning(note)
        for name, problem in processed.problems.items():
            if self._log_throttle.should_log(problem):
                self.get_logger().warning(f"{name} is left out: {problem}")
        reason = processed.occupancy.short_history
        if reason not in ("", "filling") and self._log_throttle.should_log(reason):
            why = processed.pose_problem or "the scan is older than the one before it, or more than a second younger"
            self.get_logger().warning(f"the network saw no past frames: {why}")

    def _on_error(self, synced: SyncedMessages[ReceivedScan], error: Exception) -> None:
        expected = next((reason for kind, reason in _EXPECTED.items() if isinstance(error, kind)), None)
        self.statistics.count("dropped", expected or "internal_error")
        problem = str(error) if expected else f"{type(error).__name__}: {error}"
        text = f"scan {synced.stamp / 1e9:.3f}: {problem}"
        self.statistics.error(text)
        if self._log_throttle.should_log(problem):
            where = "" if expected else "\n" + "".join(traceback.format_exception(error))
            self.get_logger().error(text + where)

    def _save_timings(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        folder = self.config.timings_folder or os.environ.get("ROS_HOME") or "~/.ros"
        file = expand_home(folder) / f"occupancy_timings_{time.strftime('%Y%m%d_%H%M%S')}.csv"
        try:
            rows = self.statistics.write_table(file)
        except OSError as error:
            response.success, response.message = False, f"the timings cannot be written: {error}; see parameter timings_folder"
            return response
        response.success, response.message = True, f"{file} ({rows} frames)"
        return response

    async def _reload_bundle(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        network = self.network
        if network is None:
            response.message = "there is no network yet: configure the node"
            return response
        done: Future[tuple[bool, str]] = Future(executor=self.executor)

        def load() -> None:
            try:
                done.set_result((True, f"running {network.reload()} on {network.engine}"))
            except Exception as error:  # the answer tells it, whatever it is
                kind = "" if isinstance(error, CANNOT_RUN) else f"{type(error).__name__}: "
                done.set_result((False, f"{kind}{error}. Still running {network.bundle_id} on {network.engine}"))

        threading.Thread(target=load, name="reload", daemon=True).start()
        answer = await done
        assert answer is not None  # only a cancelled future has none
        response.success, response.message = answer
        log = self._log_info if response.success else self._log_error
        log(f"reload: {response.message}")
        return response


def _transforms(node: Node) -> Any:
    try:
        from occle_ros.calibration.tf_listener import listen_to_transforms

        return listen_to_transforms(node)
    except ImportError as error:
        raise CalibrationError(
            f"part of the calibration would have to come from TF, which this Python cannot receive ({error}); give parameter "
            "calibration_file (`occle bag` writes one beside every bag), or T_grid_lidar and cameras.<name>.T_camera_lidar"
        ) from error
