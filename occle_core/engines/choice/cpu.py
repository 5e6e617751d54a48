# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`auto` on a CPU: the engine that is fastest on this machine, measured once for a second and kept in the engine cache."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypedDict

import torch

from occle_core.build_cache import cached
from occle_core.bundle import BundleSpec, weights_digest
from occle_core.engines.base import Engine
from occle_core.errors import EngineError
from occle_core.native import build
from occle_core.native.library import VARIABLE
from occle_core.networks.protocol import Network

PACKAGES = ("torch", "openvino", "onnxruntime")
FILE = "choice.json"


class _NotMeasuredError(EngineError):
    """There are engines, and nothing says which is the fastest."""


class Choice(TypedDict):
    """What was measured: the engine, milliseconds a frame of each, and why others were passed over."""

    engine: str
    times: dict[str, float]
    passed: dict[str, str]


def fastest_engine(
    spec: BundleSpec,
    network: Network,
    load: Callable[[str], Engine],
    times_of: Callable[[list[str]], dict[str, float]],
    precision: str,
    threads: int | None,
    max_concurrent: int,
    progress: Callable[[str], None],
) -> Engine:
    """The engine that needs the least time for a frame of those that work here: one frame at a time, or several at once.

    Args:
        spec: the bundle's spec.
        network: its network.
        load: gives an engine by its name; EngineError where it does not work here.
        times_of: milliseconds a frame of several by their names; EngineError where they cannot be measured.
        precision: that `load` gives them in.
        threads: CPU threads that the engines may use; None: their own choice.
        max_concurrent: frames at the same time.
        progress: called with what takes long, and with what was passed over.

    Raises:
        EngineError: none works here.
    """
    passed: dict[str, str] = {}
    engines: dict[str, Engine] = {}

    def take(*names: str) -> None:
        """Load the first of these that works."""
        for name in names:
            try:
                engines[name] = load(name)
                return
            except EngineError as error:
                passed[name] = str(error)
                progress(f"not {name}: {error}")

    def measure() -> Choice:
        take("native")
        # A fixed program takes a minute to export: only where the compiled kernels have no wide vectors, or are not there.
        if ("native" not in engines or build.supported()[0] == "plain") and max_concurrent == 1:
            take("openvino", "onnxruntime")
        take("torch")
        if not engines:
            take("openvino", "onnxruntime")
        if not engines:
            raise EngineError("no engine works here: " + "; ".join(f"{name}: {why}" for name, why in passed.items()))
        if len(engines) == 1:
            return {"engine": next(iter(engines)), "times": {}, "passed": passed}
        progress(f"measuring {', '.join(engines)} for a second, once")
        try:
            times = times_of(list(engines))
        except EngineError as error:
            raise _NotMeasuredError(str(error)) from error
        return {"engine": min(times, key=times.__getitem__), "times": times, "passed": passed}

    made: list[Choice] = []

    def keep(folder: Path) -> None:
        made.append(measure())
        (folder / FILE).write_text(json.dumps(made[0]), encoding="utf-8")

    def kept() -> Choice:
        try:
            folder = cached(_key(spec, network, precision, threads, max_concurrent), keep, progress)
        except EngineError as error:
            if (engines or passed) and not made:
                raise
            progress(f"the choice of an engine is not kept: {error}")
            return made[0] if made else measure()
        choice: Choice = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return choice

    try:
        choice = kept()
    except _NotMeasuredError as error:
        progress(f"{error}; the next start tries again")
        choice = {"engine": next(iter(engines)), "times": {}, "passed": passed}
    try:
        engine = engines.get(choice["engine"]) or load(choice["engine"])
    except EngineError as error:
        progress(f"not {choice['engine']}, which was the fastest here before: {error}")
        passed[choice["engine"]] = str(error)
        engine, choice = load("torch"), {"engine": "torch", "times": {}, "passed": passed}
    measured = ", ".join(f"{name} {ms:.0f} ms" for name, ms in choice["times"].items())
    why = f"the fastest here, a frame: {measured}" if measured else "works here"
    engine.reason = f"auto: {why}" + "".join(f"; not {name}: {text}" for name, text in choice["passed"].items())
    return engine


def _key(spec: BundleSpec, network: Network, precision: str, threads: int | None, max_concurrent: int) -> dict[str, str]:
    """What the choice depends on: this machine, the bundle, the versions, and how it is used."""
    return {
        "kind": "fastest engine",
        "cpu": f"{_cpu()}, {os.cpu_count()} CPUs",
        "weights": weights_digest(spec, network),
        "versions": ", ".join(f"{package} {_version(package)}" for package in PACKAGES),
        "native": f"{build.sources_digest()} {os.environ.get(VARIABLE, '')} {_compiler()}",
        "use": f"{precision}, threads {threads}, at once {max_concurrent}",
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def _compiler() -> str:
    try:
        return build.compiler()[1]
    except EngineError as error:
        return str(error)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
