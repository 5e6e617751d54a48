# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The node's work without DDS, from messages in memory to messages, and training steps. A part of `benchmark.gpu`."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from benchmark.gpu.frames import FrameSource
from benchmark.gpu.networks import profiled, tiny_spec
from benchmark.gpu.report import Report, Row
from benchmark.machine import spread
from benchmark.messages import messages_of
from occle_core.bundle import BundleSpec, find_bundle, load_bundle, rig_spec
from occle_core.engines.loading import load_engine
from occle_core.frame import Frame
from occle_core.networks.minkocc.inputs import collate, prepare
from occle_core.occupancy import Occupancy
from occle_core.predictor import Predictor
from occle_core.taxonomy import load as load_taxonomy

CONCURRENT = (1, 2)
NODE_FRAMES, WARM = 120, 6
CAMERAS = {"kitti": (1242, 375), "nuscenes": (1600, 900)}
"""Sizes of made-up images."""
BATCHES = (2, 8)
STEPS, LOADED_STEPS = 20, 24
PRECISIONS: tuple[Any, ...] = ("fp32", "tf32", "bf16")


def measure_node(report: Report, source: FrameSource, device: str, tiny: bool) -> None:
    """A row per bundle and number of concurrent frames: rate, latency, stages, and the CPU time of a frame."""
    for rig in ("kitti",) if tiny else ("kitti", "nuscenes"):
        for concurrent in CONCURRENT[:1] if tiny else CONCURRENT:

            def row(rig: str = rig, concurrent: int = concurrent) -> Row:
                return _node(report.folder, source, rig, concurrent, device, tiny)

            report.measure("node", {"network": rig, "concurrent": concurrent}, row)


def _node(folder: Path, source: FrameSource, rig: str, concurrent: int, device: str, tiny: bool) -> Row:
    from occle_ros.calibration.rig import Calibration  # needs no ROS, but packages that a training does without
    from occle_ros.messages.markers import marker_array
    from occle_ros.pipeline.pipeline import Pipeline
    from occle_ros.sync.lidar_led import SyncedMessages

    spec, network, bundle_id = _tiny() if tiny else load_bundle(find_bundle(rig))
    simulated = bool(source.datasets(rig))
    size = None if simulated else (320, 192) if tiny else CAMERAS[rig]
    made = [messages_of(sample[0], rig == "nuscenes" or tiny, size) for sample in source.samples(spec, 2 if tiny else 8)]
    synced = [SyncedMessages(1, scan, images, {}) for scan, images, _ in made]
    engine = load_engine(spec, network, name="torch" if tiny else "auto", max_concurrent=concurrent)
    config = _config(folder, made[0][2], concurrent)
    pipeline = Pipeline(Predictor(spec, engine, bundle_id, concurrent), config, Calibration(config))
    first = next((image for image in made[0][2].images if image is not None), None)
    row: Row = {"engine": engine.name, "image": "none" if first is None else str(first.shape[1::-1])}
    make_cloud: Callable[[Occupancy], Any] | None = None
    try:
        from occle_ros.messages.clouds import cloud_from_occupancy

        make_cloud = cloud_from_occupancy
    except ImportError as error:
        row["cloud"] = f"left out: {error}"

    def process(messages: Any) -> tuple[float, dict[str, float]]:
        began = time.perf_counter()
        occupancy = pipeline.process(messages).occupancy
        built = time.perf_counter()
        if make_cloud is not None:
            make_cloud(occupancy)
        cloud = time.perf_counter()
        marker_array(occupancy)
        done = time.perf_counter()
        return (done - began) * 1e3, occupancy.timings | {"cloud": (cloud - built) * 1e3, "markers": (done - cloud) * 1e3}

    count = 2 if tiny else NODE_FRAMES
    with ThreadPoolExecutor(concurrent) as threads:
        list(threads.map(process, islice(cycle(synced), 1 if tiny else WARM)))
        began, used = time.perf_counter(), time.process_time()
        found = list(threads.map(process, islice(cycle(synced), count)))
        seconds, cpu = time.perf_counter() - began, time.process_time() - used
    row["frames/s"] = count / seconds
    row["CPU, ms a frame"] = 1e3 * cpu / count
    row["p50"], row["p95"], row["p99"] = spread([total for total, _ in found])
    row["stages, ms"] = {name: round(float(np.median([stages[name] for _, stages in found])), 2) for name in found[0][1]}
    return row | profiled(lambda: process(synced[0]), device != "cpu")


def _tiny() -> tuple[BundleSpec, Any, str]:
    spec = tiny_spec()
    return spec, spec.build().eval(), "tiny"


def _config(folder: Path, frame: Frame, concurrent: int) -> Any:
    """The node's configuration for a frame's cameras, and their calibration as a file."""
    from occle_ros.config.node_config import NodeConfig

    names = [f"cam{number}" for number in range(len(frame.cameras))]
    cameras = {
        name: {
            "T_camera_lidar": camera.T_camera_lidar.tolist(),
            "K": camera.K.tolist(),
            "width": camera.width,
            "height": camera.height,
        }
        for name, camera in zip(names, frame.cameras)
    }
    content = {"lidar_frame": "lidar", "grid_frame": "grid", "T_grid_lidar": frame.T_grid_lidar.tolist(), "cameras": cameras}
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "calibration.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    topics = {name: {"topic": f"/{name}/image", "info_topic": ""} for name in names}
    return NodeConfig.model_validate(
        {"calibration_file": str(file), "camera_names": names, "cameras": topics, "max_concurrent_frames": concurrent}
    )


def measure_training(report: Report, source: FrameSource, device: str, tiny: bool) -> None:
    """A row per batch size and precision with batches that are there already, then with the loader."""
    spec = tiny_spec() if tiny else rig_spec("small", "kitti")
    for size in BATCHES[:1] if tiny else BATCHES:
        for precision in PRECISIONS[:: 2 if tiny else 1]:

            def row(size: int = size, precision: Any = precision) -> Row:
                return _steps(spec, source, size, precision, device, tiny)

            report.measure("training", {"batch": size, "precision": precision, "batches": "in memory"}, row)
    if not tiny:
        name = {"batch": BATCHES[-1], "precision": "tf32", "batches": "loaded"}
        report.measure("training", name, lambda: _loaded(spec, source, BATCHES[-1], device))


def _steps(spec: BundleSpec, source: FrameSource, size: int, precision: Any, device: str, tiny: bool) -> Row:
    from occle_train.loop.precision import matmul_precision
    from occle_train.loop.running_average import running_average
    from occle_train.minkocc.batches import MinkOccBatch
    from occle_train.minkocc.config import FitConfig
    from occle_train.minkocc.trainer import Trainer
    from occle_train.process_group import ALONE

    frames = [sample[0] for sample in source.samples(spec, size)]
    classes, rng = load_taxonomy(spec.taxonomy), np.random.default_rng(0)
    labels = []
    for frame in frames:
        points = frame.points[:, :3] @ frame.T_grid_lidar[:3, :3].T + frame.T_grid_lidar[:3, 3]
        solid = spec.voxel_grid.occupied(points)
        solid[:, :, 1:] |= solid[:, :, :-1]  # as thick as surfaces that several scans have seen
        labels.append(np.where(solid, rng.integers(1, classes.num_classes, solid.shape), classes.free).astype(np.uint8))
    truth = torch.from_numpy(np.stack(labels))
    inputs = collate([prepare(frame, spec.voxel_grid, spec.network) for frame in frames])  # type: ignore[arg-type]
    batch = MinkOccBatch(inputs, truth, torch.full_like(truth, 255), (truth != classes.free).to(torch.uint8), []).to(device)
    config = FitConfig(batch_size=size, precision=precision)
    network: Any = spec.build().to(device).train()
    fused = True if device != "cpu" else None
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=config.weight_decay, fused=fused)
    weights = torch.ones(classes.num_classes, device=device)
    trainer = Trainer(network, None, optimizer, (weights, weights), classes.free, config, ALONE)
    average = running_average(network, config.ema_decay)

    def step() -> None:
        trainer.step(0, batch)
        average.update_parameters(network)

    times = []
    with matmul_precision(precision, device):
        for _ in range(1 if tiny else 3):
            step()
        if device != "cpu":
            torch.cuda.reset_peak_memory_stats()
        for _ in range(1 if tiny else STEPS):
            began = time.perf_counter()
            step()
            if device != "cpu":
                torch.cuda.synchronize()
            times.append((time.perf_counter() - began) * 1e3)
        row: Row = {"step, ms": float(np.median(times)), "frames/s": 1e3 * size / float(np.median(times))}
        if device != "cpu":
            row["peak, GB"] = torch.cuda.max_memory_allocated() / 2**30
        return row | profiled(step, device != "cpu")


def _loaded(spec: BundleSpec, source: FrameSource, size: int, device: str) -> Row:
    from occle_train.data.samples import Samples
    from occle_train.loop.precision import matmul_precision
    from occle_train.loop.workers import close_loader, loader_processes
    from occle_train.minkocc.config import FitConfig
    from occle_train.minkocc.fit import make_loader, make_trainer, minkocc_config
    from occle_train.process_group import ALONE

    datasets = source.datasets("kitti")
    if not datasets:
        return {"why": "made-up frames have no truth"}
    samples = Samples(datasets, spec.voxel_grid, minkocc_config(spec))
    config = FitConfig(batch_size=size, precision="tf32", steps=10**6)
    trainer = make_trainer(spec, samples, config, device, None)
    trainer.network.train()
    loader = iter(make_loader(spec, samples, config, ALONE, device, 0))
    waits: list[float] = []
    began = time.perf_counter()
    try:
        with matmul_precision("tf32", device):
            for number in range(2 * LOADED_STEPS):
                if number == LOADED_STEPS:  # the first half fills the loader's processes and their memory
                    waits, began = [], time.perf_counter()
                waited = time.perf_counter()
                batch = next(loader)
                waits.append((time.perf_counter() - waited) * 1e3)
                trainer.step(number, batch.to(device))
    finally:
        close_loader(loader)
    seconds = time.perf_counter() - began
    wait, rate = float(np.median(waits)), LOADED_STEPS * size / seconds
    return {"frames/s": rate, "wait, ms": wait, "workers": loader_processes(None, device), "frames in all": len(samples)}
