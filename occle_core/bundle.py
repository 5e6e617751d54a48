# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Bundles: a folder with `bundle.yaml` (what the network is, and where its weights come from) and `weights.safetensors`."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

import torch
import yaml
from pydantic import Discriminator, Field, PositiveInt, Tag, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from occle_core import taxonomy
from occle_core.atomic_file import atomic_write
from occle_core.calibration import Calibration
from occle_core.config import Config
from occle_core.errors import OccleError
from occle_core.geometry.grid import OCC3D_NUSCENES, SEMANTICKITTI, VoxelGrid
from occle_core.networks.capacities import Capacities
from occle_core.networks.protocol import Network, NetworkConfig, RigName, Size
from occle_core.networks.registry import NETWORKS
from occle_core.paths import bundle_folder
from occle_core.taxonomy import TaxonomyConfig

KINDS = tuple(NETWORKS)
FORMAT_VERSION = 1
SPEC_FILE, WEIGHTS_FILE = "bundle.yaml", "weights.safetensors"


class BundleError(OccleError, ValueError):
    """A bundle that cannot be used; the message says why and what to do."""


class GridConfig(Config):
    """A voxel grid in a bundle."""

    origin: tuple[float, float, float] = Field(description="lowest corner, metres, grid frame")
    shape: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(description="cells along x, y, z")
    resolution: float = Field(gt=0, description="edge length of a cell, metres")


def _kind(network: Any) -> str:
    return str(network.get("kind") if isinstance(network, dict) else getattr(network, "kind", None))


if TYPE_CHECKING:
    AnyNetworkConfig = NetworkConfig
else:
    _tagged = tuple(Annotated[network.config_class, Tag(kind)] for kind, network in NETWORKS.items())
    AnyNetworkConfig = Annotated[Union[_tagged], Discriminator(_kind)]  # noqa: UP007


class BundleSpec(Config):
    """The contents of bundle.yaml."""

    format_version: Literal[1] = 1
    name: str = Field(description="what people call it")
    network: AnyNetworkConfig
    grid: GridConfig
    taxonomy: str | TaxonomyConfig = Field(description="name of a shipped class list, or the class list itself")
    capacities: Capacities | None = Field(None, description="rows of the static form's tables, measured on frames")
    typical: Capacities | None = Field(
        None, description="rows that most frames need: CPUs run in these and fall back to capacities"
    )
    calibration: Calibration | None = Field(None, description="what the network's confidence is worth, measured on held-out frames")
    provenance: dict[str, Any] = Field(default_factory=dict, description="data, labels, metrics, revision, date")

    @property
    def voxel_grid(self) -> VoxelGrid:
        """The grid as the rest of the code uses it."""
        return VoxelGrid(self.grid.origin, self.grid.shape, self.grid.resolution)

    def build(self) -> Network:
        """The network with fresh weights."""
        return NETWORKS[self.network.kind].build(self.network, taxonomy.load(self.taxonomy).num_classes, self.voxel_grid)


def spec_for(network: NetworkConfig, grid: VoxelGrid, classes: str | TaxonomyConfig, name: str) -> BundleSpec:
    """A spec from the objects the code works with."""
    levels = network.levels
    if any(n % 2**levels for n in grid.shape):
        raise BundleError(f"a network of {levels + 1} levels needs a grid whose shape {grid.shape} is divisible by {2**levels}")
    layout = GridConfig(origin=grid.origin, shape=grid.shape, resolution=grid.resolution)
    return BundleSpec(name=name, network=network, grid=layout, taxonomy=classes)


def rig_spec(size: Size, rig: RigName, kind: str = "minkocc", classes: TaxonomyConfig | None = None) -> BundleSpec:
    """The spec of a network size for a rig: its configuration, the data set's volume and classes, or a class list of your own."""
    network, coarsening = NETWORKS[kind].preset(size, rig)
    grid = (OCC3D_NUSCENES if rig == "nuscenes" else SEMANTICKITTI).coarser(coarsening)
    usual = {"kitti": "semantickitti", "nuscenes": "occ3d_nuscenes", "kitti360": "sscbench_kitti360"}[rig]
    return spec_for(network, grid, classes or usual, f"{kind}-{size}-{rig}")


def find_bundle(name: Path | str) -> Path:
    """A bundle's folder: a path, or the name of a shipped one, such as "kitti".

    Raises:
        BundleError: a name that is neither a folder here nor a shipped bundle's.
    """
    try:
        return bundle_folder(name)
    except FileNotFoundError as error:
        raise BundleError(str(error)) from error


def save_bundle(directory: Path | str, spec: BundleSpec, network: nn.Module) -> None:
    """Write a bundle; an older one at this place is replaced only when the new one is complete.

    Matrices are stored in float16, vectors (norms, biases) in float32.

    Raises:
        BundleError: there is something else at this place.
    """
    directory = Path(directory)
    require_bundle_place(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: _stored(value) for name, value in _weights(network).items()}
    text = _as_yaml(spec)
    fresh = directory.with_name(f".{directory.name}.{secrets.token_hex(6)}.part")
    fresh.mkdir()
    try:
        # safetensors' own writer makes the file 0600, whatever the umask asks for.
        (fresh / WEIGHTS_FILE).write_bytes(save(tensors))
        (fresh / SPEC_FILE).write_text(text, encoding="utf-8")
        if directory.exists():
            shutil.rmtree(directory)
        fresh.rename(directory)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def require_bundle_place(directory: Path | str) -> None:
    """Make sure that a bundle can be written to a folder, all of which it replaces: a new one, an empty one, or an older bundle.

    Raises:
        BundleError: there is something else, which would be lost.
    """
    directory = Path(directory)
    if not directory.exists():
        return
    there = sorted(file.name for file in directory.iterdir()) if directory.is_dir() else []
    if not directory.is_dir() or (there and SPEC_FILE not in there):
        what = f"a folder that holds {_some(there)}" if directory.is_dir() else "a file"
        raise BundleError(f"{directory} is {what}, no bundle to be replaced; give a folder that is not there yet")


def replace_spec(directory: Path | str, spec: BundleSpec) -> None:
    """Write a bundle's bundle.yaml anew, beside the weights that it has.

    Raises:
        OSError: it cannot be written.
    """
    with atomic_write(Path(directory) / SPEC_FILE) as temporary:
        temporary.write_text(_as_yaml(spec), encoding="utf-8")


def load_bundle(directory: Path | str) -> tuple[BundleSpec, Network, str]:
    """Read a bundle.

    Returns:
        the spec, the network in evaluation mode with its weights (float32, CPU), and the bundle's id (name and content hash).

    Raises:
        BundleError: a file is missing or broken, the format is another version's, or tensors are missing, unknown or misshapen.
    """
    directory = Path(directory)
    spec = read_spec(directory)
    path = directory / WEIGHTS_FILE
    try:
        with path.open("rb"):  # safetensors calls a file that must not be read missing
            pass
        tensors = load_file(path)
    except PermissionError as error:
        raise BundleError(f"{path} cannot be read: permission denied; change its mode or owner") from error
    except (OSError, SafetensorError) as error:
        raise BundleError(
            f"{path}: cannot be read as safetensors ({error}); copy the bundle again or train one: occle-train fit"
        ) from error
    try:
        network = spec.build()
    except ValueError as error:
        raise BundleError(f"{directory / SPEC_FILE}: {error}") from error
    sets = list(network.set_names)
    if any(list(found.sets) != sets for found in (spec.capacities, spec.typical) if found is not None):
        raise BundleError(
            f"{directory / SPEC_FILE}: capacities.sets and typical.sets must be of the network's sets, in their order: "
            f"{', '.join(sets)}; measure them with occle-train export BUNDLE --data DATASET"
        )
    expected = _weights(network)
    missing, unknown = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or unknown:
        raise BundleError(f"{path} does not fit the network of {SPEC_FILE}: missing {_some(missing)}; unknown {_some(unknown)}")
    misshapen = [
        f"{k} {tuple(tensors[k].shape)} instead of {tuple(v.shape)}" for k, v in expected.items() if tensors[k].shape != v.shape
    ]
    if misshapen:
        raise BundleError(f"{path} does not fit the network of {SPEC_FILE}: {_some(misshapen)}")
    broken = [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise BundleError(f"{path} holds NaN or infinite values in {_some(broken)}; the training diverged or the file is damaged")
    network.load_state_dict({name: value.float() for name, value in tensors.items()}, strict=False)
    digest = hashlib.sha256((directory / SPEC_FILE).read_bytes() + path.read_bytes()).hexdigest()
    return spec, network.eval(), f"{spec.name}-{digest[:12]}"


def read_spec(directory: Path | str) -> BundleSpec:
    """bundle.yaml alone.

    Raises:
        BundleError: it is missing, is not YAML, or says something this version does not understand.
    """
    path = Path(directory) / SPEC_FILE
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        shipped = find_bundle(directory)
        copy = f"; the shipped one is only read: copy {shipped}, and name the copy" if shipped != path.parent else ""
        raise BundleError(f"{directory} is no bundle: it has no {SPEC_FILE}{copy}") from error
    except PermissionError as error:
        raise BundleError(f"{path} cannot be read: permission denied; change its mode or owner") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BundleError(f"{path}: cannot be read as YAML ({error})") from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{path}: format_version is {version!r}; this occle reads version {FORMAT_VERSION}. Write it anew with occle-train"
        )
    try:
        spec = BundleSpec.model_validate(content)
        taxonomy.load(spec.taxonomy)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(str(part) for part in e['loc'] if part not in KINDS)}: {e['msg']}" for e in error.errors())
        raise BundleError(f"{path}: {wrong}") from error
    except KeyError as error:
        raise BundleError(f"{path}: {error.args[0]}") from error
    spec_for(spec.network, spec.voxel_grid, spec.taxonomy, spec.name)
    return spec


def weights_digest(spec: BundleSpec, network: nn.Module) -> str:
    """Changes whenever the network computes something else: hash of its configuration, grid, classes, capacities and weights."""
    computing = spec.model_copy(update={"name": "", "provenance": {}}).model_dump_json(exclude={"calibration"})
    digest = hashlib.sha256(computing.encode())
    for name, value in sorted(_weights(network).items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _as_yaml(spec: BundleSpec) -> str:
    return yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}


def _stored(value: Tensor) -> Tensor:
    return value.detach().cpu().to(torch.float16 if value.ndim > 1 else torch.float32).contiguous()


def _some(names: list[str]) -> str:
    return (", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")) or "none"
