"""The live node: messages in, voxels out. Thin on purpose: the work is done by sync, worker and pipeline."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Float64
from visualization_msgs.msg import MarkerArray

from occle_core.bundle import BundleError
from occle_core.camera import Camera
from occle_core.frame import Frame, FrameError
from occle_core.predictor import Predictor
from occle_ros.calibration import Calibration, CalibrationError
from occle_ros.config import ConfigError
from occle_ros.conversions import ConversionError, cloud_from_occupancy, stamp_of
from occle_ros.diagnostics import Diagnostics
from occle_ros.markers import marker_array
from occle_ros.node_parameters import declare_config
from occle_ros.pipeline import Pipeline, Processed, collector_for
from occle_ros.statistics import Statistics
from occle_ros.sync import Collected
from occle_ros.transport import stop_signals, use_shared_memory_profile
from occle_ros.worker import Worker

NODE_NAME = "occupancy"
STOP_SECONDS = 1.5
REPEAT_SECONDS = 5.0
_EXPECTED = {FrameError: "unusable_frame", ConversionError: "unreadable_message", CalibrationError: "no_calibration"}


@dataclass(frozen=True)
class _Scan:
    """A scan on its way to the worker, with the steady time and the age of its stamp when it arrived."""

    message: PointCloud2
    arrived: float
    age_ms: float


class OccupancyNode(Node):
    """Subscribes to one LiDAR and the cameras, publishes ~/voxels, ~/markers, ~/debug/... and /diagnostics.

    The bundle is loaded and has run once before the node subscribes to anything: whoever waits for its subscriptions
    waits for a node that is ready.

    Raises:
        ConfigError, CalibrationError, BundleError: the node cannot run as it is configured.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(NODE_NAME, automatically_declare_parameters_from_overrides=True, **arguments)
        self.config = declare_config(self)
        calibration = Calibration(self.config)
        if calibration.needs_transforms:
            calibration.use_transforms(_transforms(self))
        self.predictor = Predictor.load(self.config.bundle_dir(), self.config.threads or None)
        self._pipeline = Pipeline(self.predictor, self.config, calibration)
        self._calibration = calibration
        _warm_up(self.predictor)
        self.statistics = Statistics()
        self._collector = collector_for(self.config)
        self._voxels = self.create_publisher(PointCloud2, "~/voxels", 10)
        self._markers = self.create_publisher(MarkerArray, "~/markers", 10)
        self._latency = self.create_publisher(Float64, "~/debug/pipeline_latency_ms", 10)
        self._stages: dict[str, Any] = {}
        self._published: dict[str, float] = {}
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._deadline_timer = self.create_timer(0.01, self._on_deadline, clock=self._steady)
        self._deadline_timer.cancel()
        self._diagnostics = Diagnostics(self, self.config, self.predictor.bundle_id, self.statistics, self._steady)
        self._viewers = 0
        self._told = ("", 0.0)
        self.create_timer(0.25, self._tell_subscribers, clock=self._steady)
        self._worker = Worker(self._work, self._on_error, "occupancy")
        self._subscribe()
        self.get_logger().info(f"ready: bundle {self.predictor.bundle_id}, waiting for {self.config.lidar.topic}")

    def stop(self) -> bool:
        """End the worker and write the report; False if the worker did not end in time."""
        stopped = self._worker.stop(STOP_SECONDS)
        if self.config.report_file:
            path = Path(self.config.report_file).expanduser()
            for reason, number in self._collector.counts.items():
                self.statistics.count("collector", reason, number)
            try:
                self.statistics.write(path, {"bundle": self.predictor.bundle_id})
            except OSError as error:
                self.get_logger().error(f"the report cannot be written: {error}")
        return stopped

    def _subscribe(self) -> None:
        reliable = self.config.qos.reliability == "reliable"
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        qos = QoSProfile(depth=self.config.qos.depth, reliability=reliability)
        for number, name in enumerate(self.config.camera_names):
            camera = self.config.cameras[name]
            image_type = CompressedImage if camera.compressed else Image
            self.create_subscription(image_type, camera.topic, partial(self._on_image, number, name), qos)
            if camera.info_topic:
                self.create_subscription(CameraInfo, camera.info_topic, partial(self._on_info, name), qos)
        self.create_subscription(PointCloud2, self.config.lidar.topic, self._on_scan, qos)

    def _on_info(self, name: str, message: CameraInfo) -> None:
        self._calibration.take_info(name, message)

    def _on_image(self, number: int, name: str, message: Image | CompressedImage) -> None:
        self.statistics.count("received", name)
        self._hand_over(self._collector.add_image(number, stamp_of(message), message, time.monotonic_ns()))

    def _on_scan(self, message: PointCloud2) -> None:
        self.statistics.count("received", "scans")
        self._diagnostics.scan_arrived()
        stamp = stamp_of(message)
        scan = _Scan(message, time.perf_counter(), self._age_ms(stamp))
        self._hand_over(self._collector.add_scan(stamp, scan, time.monotonic_ns()))

    def _tell_subscribers(self) -> None:
        viewers = self._voxels.get_subscription_count()
        if viewers != self._viewers:
            self._viewers = viewers
            self.get_logger().info(f"{viewers} subscribers of voxels")

    def _on_deadline(self) -> None:
        self._hand_over(self._collector.poll(time.monotonic_ns()))

    def _hand_over(self, frames: Sequence[Collected[_Scan]]) -> None:
        for frame in frames:
            if self._worker.submit(frame) is not None:
                self.statistics.count("dropped", "replaced_by_newer")
        waiting = self._collector.next_deadline() is not None
        if waiting and self._deadline_timer.is_canceled():
            self._deadline_timer.reset()
        elif not waiting and not self._deadline_timer.is_canceled():
            self._deadline_timer.cancel()

    def _work(self, collected: Collected[_Scan]) -> None:
        scan = collected.scan
        waited = (time.perf_counter() - scan.arrived) * 1e3
        processed = self._pipeline.process(replace(collected, scan=scan.message))
        began = time.perf_counter()
        self._publish(processed)
        published = (time.perf_counter() - began) * 1e3
        # By the node's clock up to the arrival, then in real time: /clock ends with the bag, before its last frame is through.
        latency = scan.age_ms + (time.perf_counter() - scan.arrived) * 1e3
        stages = {"receive": scan.age_ms, "wait": waited, **processed.occupancy.timings, "publish": published}
        self.statistics.frame_done(time.monotonic(), latency, stages)
        self.statistics.count("points", "not_finite", processed.dropped_points)
        for name, reason in processed.masked.items():
            self.statistics.count("masked", f"{name}:{reason}")
        if self._latency.get_subscription_count() and not math.isnan(latency):
            self._latency.publish(Float64(data=latency))
        self._publish_stages(stages)

    def _publish(self, processed: Processed) -> None:
        if self._is_due("voxels", self._voxels, self.config.voxels.max_rate_hz):
            self._voxels.publish(cloud_from_occupancy(processed.occupancy))
        if self._is_due("markers", self._markers, self.config.markers.max_rate_hz):
            markers = marker_array(processed.occupancy, self.config.markers.max_voxels)
            self._markers.publish(markers.data)
            self.statistics.count("markers", "left_out_voxels", markers.left_out)

    def _is_due(self, output: str, publisher: Any, max_rate: float) -> bool:
        now = time.monotonic()
        # A tenth of a period of slack: frames that come at just the allowed rate jitter around it.
        if not publisher.get_subscription_count() or (max_rate and now - self._published.get(output, -1e9) < 0.9 / max_rate):
            return False
        self._published[output] = now
        self.statistics.count("published", output)
        return True

    def _publish_stages(self, stages: dict[str, float]) -> None:
        for stage, milliseconds in stages.items():
            if stage not in self._stages:
                self._stages[stage] = self.create_publisher(Float64, f"~/debug/processing_time/{stage}_ms", 10)
            if self._stages[stage].get_subscription_count():
                self._stages[stage].publish(Float64(data=milliseconds))

    def _on_error(self, collected: Collected[_Scan], error: Exception) -> None:
        expected = next((reason for kind, reason in _EXPECTED.items() if isinstance(error, kind)), None)
        self.statistics.count("dropped", expected or "internal_error")
        problem = str(error) if expected else f"{type(error).__name__}: {error}"
        text = f"scan {collected.stamp / 1e9:.3f}: {problem}"
        self.statistics.error(text)
        # The same problem in every frame fills no log.
        now = time.monotonic()
        if problem != self._told[0] or now - self._told[1] > REPEAT_SECONDS:
            self._told = (problem, now)
            self.get_logger().error(text)

    def _age_ms(self, stamp: int) -> float:
        """By the node's clock; NaN while use_sim_time has no /clock yet."""
        now = self.get_clock().now().nanoseconds
        return (now - stamp) / 1e6 if now else math.nan


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; returns the exit code: 0, or 1 for a configuration that cannot run."""
    use_shared_memory_profile()
    with stop_signals() as stop:
        try:
            rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        except Exception as error:  # rclpy's own errors have no common base; all of them mean unusable --ros-args
            return _fail(error)
        try:
            node = OccupancyNode()
        except (ConfigError, CalibrationError, BundleError, ParameterException) as error:
            rclpy.shutdown()
            return _fail(error)
        return _run(node, stop)


def _run(node: OccupancyNode, stop: threading.Event) -> int:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spinning = threading.Thread(target=_spin, args=(executor, stop), name="spin")
    spinning.start()
    stop.wait()
    executor.shutdown(timeout_sec=0.5)
    # The thread has to be gone before rclpy.shutdown, or the process aborts.
    spinning.join()
    if not node.stop():
        # The network is still at work and uses what would be torn down now; the report is written, so leave at once.
        node.get_logger().warning("the last frame takes long; leaving without it")
        sys.stderr.flush()
        os._exit(0)
    node.destroy_node()
    rclpy.shutdown()
    return 0


def _spin(executor: SingleThreadedExecutor, stop: threading.Event) -> None:
    try:
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.2)
    except ExternalShutdownException:
        pass
    finally:
        stop.set()


def _transforms(node: Node) -> Any:
    try:
        from occle_ros.compat import listen_to_transforms

        return listen_to_transforms(node)
    except ImportError as error:
        raise CalibrationError(
            f"part of the calibration would have to come from TF, which this Python cannot receive ({error}); give parameter "
            "calibration_file (`occle bag` writes one beside every bag), or T_grid_lidar and cameras.<name>.T_camera_lidar"
        ) from error


def _warm_up(predictor: Predictor) -> None:
    """One prediction of random points: the first one is slower than all others."""
    grid = predictor.grid
    at = np.random.default_rng(0).uniform(grid.origin, grid.upper, (5000, 3))
    points = np.hstack([at, np.zeros((len(at), 1))]).astype(np.float32)
    camera = Camera(np.array([[64, 0, 64], [0, 64, 32], [0, 0, 1]]), np.eye(4), 128, 64)
    images = [np.zeros((64, 128, 3), np.uint8)] * predictor.cameras
    predictor.predict(Frame(0, points, images, [camera] * predictor.cameras))


def _fail(error: Exception) -> int:
    print(f"occupancy node: {error}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv))
