# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The weights of a checkpoint as a network, with the spec of its bundle."""

from __future__ import annotations

from pathlib import Path

from occle_core.bundle import BundleSpec
from occle_core.networks.protocol import Network
from occle_train.loop.checkpoints import CHECKPOINT, read_checkpoint
from occle_train.loop.run_key import provenance_of


def checkpoint_of(source: Path) -> Path:
    """The checkpoint of a run's folder, of OccLE's phases or an adaptation's rounds the last that there is; a file is its own.

    Raises:
        ValueError: there is none.
    """
    if not source.is_dir():
        return source
    found = [file for file in (source / name for name in (CHECKPOINT, *_PHASES)) if file.exists()]
    found += sorted(source.glob(f"round-*/{CHECKPOINT}"), key=lambda file: int(file.parent.name.partition("-")[2]), reverse=True)
    if not found:
        raise ValueError(f"{source} holds no {CHECKPOINT}; has the run begun?")
    return found[0]


_PHASES = tuple(f"{phase}/{CHECKPOINT}" for phase in ("fusion", "student", "teacher", "semantic"))


def read_weights(source: Path, raw: bool = False) -> tuple[BundleSpec, Network, int]:
    """Spec, network and steps of a run or a checkpoint.

    Args:
        source: a run's folder or a checkpoint.
        raw: take the last step's weights where there is a running average.

    Raises:
        ValueError: it is no checkpoint.
    """
    saved = read_checkpoint(checkpoint_of(source))
    spec = BundleSpec.model_validate(saved["key"]["network"])
    spec = spec.model_copy(update={"provenance": {**provenance_of(saved["key"]), "steps": saved["step"]}})
    network = spec.build()
    if raw or "average" not in saved:
        network.load_state_dict(saved["network"])
    else:
        prefix = "module."
        weights = {name.removeprefix(prefix): value for name, value in saved["average"].items() if name.startswith(prefix)}
        network.load_state_dict(weights)
    return spec, network.eval(), int(saved["step"])
