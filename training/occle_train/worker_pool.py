# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Work of the map kind (a function over frames) in this process, in a process pool, or in actors of a Ray cluster.

Every worker opens its state once, with one GPU where there are some; results come in the items' order.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, TypeVar

from occle_train.process_pool import process_pool

Job = TypeVar("Job")
State = TypeVar("State")
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Workers:
    """Where work runs.

    Args:
        count: workers; one without Ray is this process.
        threads: PyTorch's CPU threads of each; None leaves them as they are.
        gpus: each worker has a GPU of its own: in a process pool those of this machine in turn.
        on_ray: actors of the Ray cluster that `find_workers` joined, instead of processes.
    """

    count: int = 1
    threads: int | None = None
    gpus: bool = False
    on_ray: bool = False

    @property
    def alone(self) -> bool:
        """Whether the work runs in this process."""
        return self.count == 1 and not self.on_ray


ALONE = Workers()


def find_workers(count: int | None = None, address: str | None = None, device: str = "auto") -> Workers:
    """Workers on this machine, or of a Ray cluster, which is joined.

    Args:
        count: how many; None is one on this machine, and on Ray one per GPU, or per CPU core where there is no GPU.
        address: of a Ray cluster: HOST:6379, ray://HOST:10001, "auto" for the one that this machine is of, or "local" for a new
            one of this machine; None: no Ray.
        device: "cpu" leaves GPUs alone.

    Raises:
        ModuleNotFoundError: Ray is not installed.
        ConnectionError: there is no cluster at `address`.
        ValueError: it has fewer GPUs or cores than workers are wanted.
    """
    if address is None:
        if (count or 1) == 1:
            return ALONE
        gpus = device != "cpu" and bool(_visible_gpus())
        return Workers(count or 1, max(1, (os.cpu_count() or 1) // (count or 1)), gpus)
    found = _join_ray(address).cluster_resources()
    cores, devices = int(found.get("CPU", 0)), int(found.get("GPU", 0))
    if device.startswith("cuda") and not devices:
        raise ValueError(f"--ray {address}: the cluster has no GPU; leave out --device {device}")
    gpus = device != "cpu" and devices > 0
    most, unit = (min(devices, cores), "GPUs with a CPU core each") if gpus else (cores, "CPU cores")
    if not 0 < (count or 1) <= most:
        raise ValueError(f"--ray {address}: the cluster has {most} {unit}, one for each worker; ask for no more than that")
    count = count or most
    return Workers(count, max(1, cores // count), gpus, on_ray=True)


@contextmanager
def mapped(
    work: Callable[[State, Item], Result],
    items: Sequence[Item],
    open_state: Callable[[Job], State],
    job: Job,
    workers: Workers = ALONE,
    describe: Callable[[Item], str] = str,
) -> Iterator[Iterator[Result]]:
    """The results of `work(open_state(job), item)` in the items' order; at the end of the `with` no worker is left.

    Args:
        work: function of a module.
        items: what it is given one by one; to be pickled, like results, where there are several workers.
        open_state: function of a module; called once per worker, before its first item.
        job: what it opens.
        workers: where the work runs.
        describe: an item in words, for messages.

    Raises:
        Exception: what `work` or `open_state` raised first in the items' order; a message of text alone begins with the item.
        ChildProcessError: a worker died.
    """
    backend = _here if workers.alone else _on_ray if workers.on_ray else _in_processes
    with backend(work, items, _Worker(open_state, job, workers.threads), workers) as results:
        yield _named(items, results, describe)


def as_given(job: Job) -> Job:
    """The job itself, where there is nothing to open."""
    return job


def consecutive_parts(items: Sequence[Item], workers: Workers, most: int = 200) -> list[Sequence[Item]]:
    """Items in parts of at most `most`, at least one a worker: for frames that follow each other and share what was read.

    In this process a part is one item, as nothing is lost there from one part to the next.
    """
    size = 1 if workers.alone else max(1, min(most, -(-len(items) // workers.count)))
    return [items[first : first + size] for first in range(0, len(items), size)]


class _Worker:
    """Opens the state when the first item comes: errors of it arrive like those of items."""

    def __init__(self, open_state: Callable[[Any], Any], job: Any, threads: int | None) -> None:
        self._open, self._job, self._threads, self._opened = open_state, job, threads, False
        self._state: Any = None

    def run(self, work: Callable[[Any, Any], Any], item: Any) -> Any:
        if not self._opened:
            if self._threads is not None:
                import torch  # takes seconds

                torch.set_num_threads(self._threads)
            self._state, self._opened = self._open(self._job), True
        return work(self._state, item)


def _named(items: Sequence[Item], results: Iterator[Result], describe: Callable[[Item], str]) -> Iterator[Result]:
    for item in items:
        try:
            result = next(results)
        except Exception as error:
            name = describe(item)
            if len(error.args) == 1 and isinstance(error.args[0], str) and name not in error.args[0]:
                error.args = (f"{name}: {error.args[0]}",)
            raise
        yield result


@contextmanager
def _here(work: Callable[[Any, Any], Any], items: Sequence[Any], worker: _Worker, workers: Workers) -> Iterator[Iterator[Any]]:
    yield (worker.run(work, item) for item in items)


@contextmanager
def _in_processes(
    work: Callable[[Any, Any], Any], items: Sequence[Any], worker: _Worker, workers: Workers
) -> Iterator[Iterator[Any]]:
    numbers = multiprocessing.get_context("spawn").SimpleQueue()
    count = max(1, min(workers.count, len(items)))
    for number in range(count):
        numbers.put(number)
    devices = _visible_gpus() if workers.gpus else []
    with process_pool(count, _begin_worker, numbers, devices, worker) as pool:
        yield pool.map(partial(_run_in_process, work), items)


_WORKER: _Worker | None = None


def _begin_worker(numbers: Any, devices: Sequence[str], worker: _Worker) -> None:
    """Take a GPU."""
    global _WORKER
    number = numbers.get()
    if devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
    _WORKER = worker


def _run_in_process(work: Callable[[Any, Any], Any], item: Any) -> Any:
    assert _WORKER is not None
    return _WORKER.run(work, item)


def _visible_gpus() -> list[str]:
    """The entries of CUDA_VISIBLE_DEVICES that name this machine's GPUs."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(number) for number in range(count)]


@contextmanager
def _on_ray(work: Callable[[Any, Any], Any], items: Sequence[Any], worker: _Worker, workers: Workers) -> Iterator[Iterator[Any]]:
    ray = _ray()
    kind = ray.remote(num_cpus=1, num_gpus=int(workers.gpus))(_RayActor)
    shared = ray.put(pickle.dumps(worker))
    actors = [kind.remote(shared) for _ in range(min(workers.count, len(items)))]
    try:
        yield _of_actors(ray, actors, work, items)
    finally:
        for actor in actors:
            ray.kill(actor)


def _of_actors(ray: Any, actors: Sequence[Any], work: Callable[[Any, Any], Any], items: Sequence[Any]) -> Iterator[Any]:
    pool = import_module("ray.util").ActorPool(actors)
    try:
        for result in pool.map(lambda actor, item: actor.run.remote(work, pickle.dumps(item)), items):
            yield pickle.loads(result)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayActorError as error:
        raise ChildProcessError(f"a Ray actor died: {str(error).splitlines()[0]}") from error


class _RayActor:
    """A worker that Ray holds. What goes in and out is pickled here, because Ray's own copies of arrays cannot be written to."""

    def __init__(self, worker: bytes) -> None:
        self._worker: _Worker = pickle.loads(worker)

    def run(self, work: Callable[[Any, Any], Any], item: bytes) -> bytes:
        return pickle.dumps(self._worker.run(work, pickle.loads(item)))


def _join_ray(address: str) -> Any:
    ray = _ray()
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's default to be, about which it warns
        options = {"include_dashboard": False} if address == "local" else {}
        ray.init(address, logging_level=logging.WARNING, **options)
    return ray


def _ray() -> Any:
    try:
        return import_module("ray")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("--ray needs Ray: pip install 'occle_ros[cluster]'") from error
