# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The order of the house: who may import whom. The lists below are the specification; the imports are read, not run."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"occle_core": ROOT / "occle_core", "occle_ros": ROOT / "occle_ros", "occle_train": ROOT / "training" / "occle_train"}

CORE = (
    "config", "errors", "atomic_file", "console", "paths", "build_cache", "output_folder", "taxonomy",
    "geometry", "rig", "frame", "occupancy", "native", "visibility", "sensors", "bags", "datasets", "rig_drafting", "history",
    "plausibility", "pictures",
    "calibration", "sparse",
    "networks.capacities", "networks.blocks", "networks.protocol", "networks.minkocc", "networks.occle", "networks.registry",
    "bundle",
    "engines.base", "engines.float16", "engines.static", "engines.cuda", "engines.parity", "engines",
    "engines.choice", "engines.loading", "engines.timing_process",
    "predictor", "mapping", "viewer",
)  # fmt: skip
ROS = ("system", "messages", "config", "calibration", "sync", "topics", "pipeline", "node.throttle", "node.worker", "mapping",
       "node", "bags", "tools", "viewer", "commands", "cli")  # fmt: skip
TRAIN = (
    "process_pool", "worker_pool", "process_launch", "process_group",
    "configs", "metrics", "losses", "data", "rendering", "pseudo_labels", "review",
    "loop", "minkocc", "adaptation", "occle", "evaluation",
    "streets.shapes", "streets.scenery", "streets.sites", "streets.sensors", "streets.scenes", "streets.drive",
    "streets.moving_scan", "streets.writing", "streets",
    "runs",
    "experiments.wrap_lines", "experiments.label_efficiency", "experiments.occle_ablation",
    "experiments.minkocc_pictures", "experiments.paper_differences",
    "commands", "cli",
)  # fmt: skip
LAYERS = {"occle_core": CORE, "occle_ros": ROS, "occle_train": TRAIN}
"""Per package its folders and modules from the lowest to the highest; one imports itself and those before it. A module belongs to
the longest name that is its own or its folder's."""

MOST_FILES = 14
"""Python files of a folder, `__init__.py` left out."""
LARGER: dict[str, str] = {
    "occle_core": "what all of its folders share lies beside them",
    "occle_train.commands": "one file a command, beside what they share",
}
"""Folders with more files, and the reason."""

Imports = dict[str, set[str]]
"""Module -> modules that it imports, those under TYPE_CHECKING and in functions included."""


def imports_of(sources: Mapping[str, str], packages: Iterable[str] = ()) -> Imports:
    """What each module imports: modules among `sources`, a package for what is taken from its `__init__`, others by their name.

    Args:
        sources: module -> its text.
        packages: those of the modules that are packages, to which relative imports are relative.
    """
    found: Imports = {}
    for module, text in sources.items():
        names: set[str] = set()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    parts = module.split(".")[
                        : None if module in packages and node.level == 1 else -node.level + (module in packages)
                    ]
                    base = ".".join([*parts, *([node.module] if node.module else [])])
                submodules = {f"{base}.{alias.name}" for alias in node.names} & sources.keys()
                names |= submodules
                if len(submodules) < len(node.names):
                    names.add(base)
        found[module] = names - {module}
    return found


def circles(imports: Imports) -> list[list[str]]:
    """Sets of modules that import each other, however far around (Tarjan's strongly connected components)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(module: str) -> None:
        number[module] = low[module] = len(number)
        stack.append(module)
        for other in imports[module] & imports.keys():
            if other not in number:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], number[other])
        if low[module] == number[module]:
            component = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(component) > 1:
                found.append(sorted(component))

    for module in imports:
        if module not in number:
            visit(module)
    return found


def layer_of(module: str, package: str, layers: tuple[str, ...]) -> int:
    """Place of a module's layer in the list.

    Raises:
        ValueError: no layer holds the module; the list has to name it.
    """
    inside = module.removeprefix(f"{package}.")
    own = [layer for layer in layers if inside == layer or inside.startswith(f"{layer}.")]
    if not own:
        raise ValueError(f"no layer of {package} holds {module}")
    return layers.index(max(own, key=len))


def upward(imports: Imports, package: str, layers: tuple[str, ...]) -> list[str]:
    """Imports within a package that lead to a higher layer."""
    found = []
    for module, others in imports.items():
        for other in sorted(others):
            inside = all(
                name.startswith(f"{package}.") and not _is_folder_of_layers(name, package, layers) for name in (module, other)
            )
            if inside and layer_of(other, package, layers) > layer_of(module, package, layers):
                found.append(f"{module} imports {other}")
    return found


def _is_folder_of_layers(module: str, package: str, layers: tuple[str, ...]) -> bool:
    """Whether a module is the `__init__` of a folder that only its parts are layers of; it holds a docstring and nothing else."""
    inside = module.removeprefix(f"{package}.")
    return inside not in layers and any(layer.startswith(f"{inside}.") for layer in layers)


def sources_of(package: str) -> tuple[dict[str, str], set[str]]:
    """The package's modules with their texts, and those that are packages."""
    texts, packages = {}, set()
    folder = PACKAGES[package]
    for file in sorted(folder.rglob("*.py")):
        parts = [package, *file.relative_to(folder).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        texts[name] = file.read_text("utf-8")
        if parts[-1] == "__init__":
            packages.add(name)
    return texts, packages


@pytest.fixture(scope="module", name="imports")
def _imports() -> Imports:
    texts: dict[str, str] = {}
    packages: set[str] = set()
    for package in PACKAGES:
        own, folders = sources_of(package)
        texts |= own
        packages |= folders
    return imports_of(texts, packages)


def test_no_modules_import_each_other_in_a_circle(imports):
    assert circles(imports) == []


@pytest.mark.parametrize("package", LAYERS)
def test_no_folder_depends_upwards(imports, package):
    assert upward(imports, package, LAYERS[package]) == []


@pytest.mark.parametrize("package", LAYERS)
def test_every_layer_has_modules(imports, package):
    layers = LAYERS[package]
    own = [module for module in imports if module.startswith(f"{package}.") and not _is_folder_of_layers(module, package, layers)]
    assert {layers[layer_of(module, package, layers)] for module in own} == set(layers)


def test_folders_of_layers_hold_no_code():
    """Their `__init__` stands in no layer, so it may hold nothing that has to be in one."""
    for package, layers in LAYERS.items():
        for module, text in sources_of(package)[0].items():
            if module == package or _is_folder_of_layers(module, package, layers):
                # Nothing but docstring and version.
                assert all(isinstance(node, (ast.Expr, ast.Assign)) for node in ast.parse(text).body), module


def test_packages_import_occle_core_only(imports):
    allowed = {"occle_core": {"occle_core"}, "occle_ros": {"occle_core", "occle_ros"}, "occle_train": {"occle_core", "occle_train"}}
    for module, others in imports.items():
        strange = {other for other in others if other.split(".")[0] in PACKAGES.keys() - allowed[module.split(".")[0]]}
        assert not strange, f"{module} imports {sorted(strange)}"


@pytest.mark.parametrize("package", ["occle_core", "occle_train"])
def test_ros_is_imported_by_occle_ros_only(imports, package):
    for module, others in imports.items():
        tops = {other.split(".")[0] for other in others}
        if module.split(".")[0] == package:
            assert not {top for top in tops if top in ("rclpy", "tf2_ros", "builtin_interfaces") or top.endswith("_msgs")}, module


def test_folders_are_small(imports):
    counts: Counter[str] = Counter()
    for package in PACKAGES:
        texts, packages = sources_of(package)
        counts.update(module.rsplit(".", 1)[0] for module in texts.keys() - packages)
    benchmarks = [file for file in (ROOT / "benchmark").rglob("*.py") if file.stem != "__init__"]
    counts.update(".".join(file.relative_to(ROOT).parent.parts) for file in benchmarks)
    large = {folder: count for folder, count in counts.items() if count > MOST_FILES}
    assert large.keys() == LARGER.keys(), large


# The checker itself, on modules that do not exist.

LOWER_HIGHER = ("low", "high")


def planted(**texts: str) -> Imports:
    """Modules of a package p, `__` in place of dots."""
    return imports_of({f"p.{name.replace('__', '.')}": text for name, text in texts.items()}, {"p.low"})


@pytest.mark.parametrize(
    "text",
    [
        "from p.high.b import f",
        "from p.high import b",
        "import p.high.b",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.high.b import C",
        "def f():\n    from p.high.b import f",
        "from ..high.b import f",
        "from ..high import b",
    ],
)
def test_a_planted_upward_import_is_found(text):
    imports = planted(low__a=text, high__b="")
    assert upward(imports, "p", LOWER_HIGHER) == ["p.low.a imports p.high.b"]
    assert upward(planted(low__a="", high__b="from p.low.a import f"), "p", LOWER_HIGHER) == []


def test_planted_circles_are_found():
    assert circles(planted(a="import p.b", b="from p import a")) == [["p.a", "p.b"]]
    under = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.a import A"
    assert circles(planted(a="from p.b import f", b="from p.c import g", c=under, d="import p.a")) == [["p.a", "p.b", "p.c"]]
    assert circles(planted(a="import p.b\nimport p.c", b="import p.c", c="import numpy")) == []


def test_a_package_counts_as_a_module():
    texts = {"p.low": "from p.low.a import f", "p.low.a": "from p.low import f"}
    assert circles(imports_of(texts, {"p.low"})) == [["p.low", "p.low.a"]]
    assert imports_of({"p.low": "from . import a\nfrom .a import f\nfrom .. import q", "p.low.a": ""}, {"p.low"}) == {
        "p.low": {"p.low.a", "p"},
        "p.low.a": set(),
    }


def test_a_module_without_a_layer_is_refused():
    assert layer_of("p.high.inner.c", "p", (*LOWER_HIGHER, "high.inner")) == 2
    with pytest.raises(ValueError, match=r"no layer of p holds p\.middle"):
        layer_of("p.middle", "p", LOWER_HIGHER)


WITHOUT_TORCH = (
    "occle_core.datasets", "occle_core.mapping", "occle_ros.cli", "occle_ros.bags.player", "occle_ros.bags.recorder",
    "occle_ros.bags.dataset_player", "occle_train.cli", "occle_train.commands.simulate", "occle_train.commands.prepare",
)  # fmt: skip
"""What starts without PyTorch, whose import takes seconds: drives are read, recorded, played and simulated without it."""


def test_what_needs_no_network_starts_without_pytorch():
    names = [name for name in WITHOUT_TORCH if find_spec("rclpy") or "bags" not in name]
    code = f"import sys, occle_ros.cli\nfor name in {names}:\n    __import__(name)\n    assert 'torch' not in sys.modules, name\n"
    code += "sys.argv[1:] = ['bag', 'kitti', '/nowhere', 'x']\n"  # a message says what is wrong as soon
    code += "try:\n    occle_ros.cli.main()\nexcept SystemExit:\n    assert 'torch' not in sys.modules, 'errors'\n"
    path = os.pathsep.join([str(ROOT), str(ROOT / "training"), os.environ.get("PYTHONPATH", "")])
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})
    assert found.returncode == 0 and "error: /nowhere" in found.stderr, found.stderr
