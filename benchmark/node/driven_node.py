# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A live node in a process and ROS domain of its own, driven with the frames of a data set."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from occle_train.streets import simulate

from benchmark.node.driver import Driver
from occle_core.datasets import list_scenes, open_dataset
from occle_core.paths import share_file
from occle_ros.bags.dataset_messages import DatasetMessages
from occle_ros.config.presets import PRESETS, preset_for
from occle_ros.system.child_process import ChildProcess
from occle_ros.system.ros_process import ros_node

FRAMES = 8
"""Number of frames that are sent in a loop, with new stamps."""


@contextmanager
def driven_node(data: Path | None, parameters: Mapping[str, Any]) -> Iterator[tuple[ChildProcess, Driver, int]]:
    """A node in a ROS domain of its own, connected to a driver of a data set.

    Args:
        data: a data set; None simulates a street.
        parameters: of the node, beside those of the rig's preset.

    Returns:
        the node, the driver, and how many frames the node works on at the same time.

    Raises:
        ProcessError: the node did not start.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        data = data.resolve() if data else _street(folder / "street")
        scene = list_scenes(data)[0]
        dataset = open_dataset(data, scene=scene)
        preset = preset_for(dataset.camera_names)
        os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
        concurrent = parameters.get("max_concurrent_frames", PRESETS[preset].max_concurrent_frames)
        given = {"calibration_file": f"{data}#{scene}", **parameters}
        words = [word for name, value in given.items() for word in ("-p", f"{name}:={json.dumps(value)}")]
        file = str(share_file(f"config/{preset}.yaml"))
        command = [sys.executable, "-m", "benchmark.node.posed_node", "--ros-args", "--params-file", file, *words]
        node = stack.enter_context(ChildProcess("node", command, folder / "node.log"))
        node.wait_for("ready: bundle", 300)
        compressed = PRESETS[preset].cameras[dataset.camera_names[0]].compressed
        driver = Driver(stack.enter_context(ros_node("driver")), DatasetMessages(dataset, compressed, min(FRAMES, len(dataset))))
        driver.connect()
        yield node, driver, concurrent


def processor_ms(pid: int) -> float:
    """Processor time of a process and its threads so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1e3 / os.sysconf("SC_CLK_TCK")


def _street(folder: Path) -> Path:
    simulate(folder, "kitti", drives=1, frames=FRAMES, seed=7, workers=1)
    return folder
