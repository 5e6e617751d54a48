# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What users install: the wheel, an editable install and a colcon workspace, each tried outside the checkout."""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

import occle_core

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("occle_core", "occle_ros", "occle_train")
SHIPPED = ("occle_core", "occle_ros", "training", "launch", "config", "resource",
           "setup.py", "setup.cfg", "pyproject.toml", "package.xml", "README.md", "LICENSE")  # fmt: skip
TRY = "import occle_core, occle_ros, occle_train; print(*(m.__file__ for m in (occle_core, occle_ros, occle_train)), sep='\\n')"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the checkout that an installation is made from, so that builds leave nothing in the checkout."""
    folder = tmp_path_factory.mktemp("source") / "occle_ros"
    folder.mkdir()
    for name in SHIPPED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source))
    (file,) = folder.glob("*.whl")
    return file


def pip(*arguments: str) -> None:
    offline = {**environment(), "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], env=offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def environment() -> dict[str, str]:
    """Without what would let Python find the checkout."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV", "AMENT_PREFIX_PATH")}


def fresh_environment(folder: Path) -> Path:
    """A new virtual environment that finds the dependencies of this one, but not the package installed in it."""
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    # Plain paths of a .pth file come last on sys.path, and the .pth files in those folders are not read.
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return folder / "bin"


def try_out(binaries: Path, elsewhere: Path) -> list[Path]:
    """Run the console scripts and import the packages outside the checkout; where the packages lie."""
    for script in ("occle", "occle-train"):
        done = subprocess.run([binaries / script, "--help"], cwd=elsewhere, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0 and "Usage" in done.stdout, done.stdout + done.stderr
    done = subprocess.run([binaries / "python", "-c", TRY], cwd=elsewhere, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [Path(line).parent for line in done.stdout.split()]


def test_the_wheel_holds_three_packages_and_nothing_else(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    version = occle_core.__version__
    assert tops == {*PACKAGES, f"occle_ros-{version}.dist-info", f"occle_ros-{version}.data"}


def test_every_data_file_is_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    in_packages = [
        file.relative_to(parent).as_posix()
        for parent, package in ((ROOT, "occle_core"), (ROOT, "occle_ros"), (ROOT / "training", "occle_train"))
        for file in (parent / package).rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    ]
    share = f"occle_ros-{occle_core.__version__}.data/data/share/"
    shared = [
        f"{share}occle_ros/{file.relative_to(ROOT).as_posix()}"
        for top in ("config", "launch")
        for file in (ROOT / top).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    ]
    ros = [f"{share}occle_ros/package.xml", f"{share}ament_index/resource_index/packages/occle_ros"]
    assert not {*in_packages, *shared, *ros} - names
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert any(name.startswith("occle_core/data/taxonomies/") for name in in_packages) and len(shared) > 10


def test_the_wheel_runs_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    binaries = fresh_environment(tmp_path / "venv")
    pip("--python", str(binaries / "python"), "install", "--no-deps", str(wheel))
    assert all(folder.is_relative_to(tmp_path / "venv") for folder in try_out(binaries, tmp_path))
    bundle = "from occle_core.paths import share_file; print(share_file('config/bundles/kitti/bundle.yaml'))"
    found = subprocess.run([binaries / "python", "-c", bundle], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert Path(found.stdout.strip()).is_relative_to(tmp_path / "venv"), found.stderr
    named = "from occle_core.bundle import find_bundle; from occle_train.configs import find_config; "
    named += "print(find_bundle('kitti')); print(find_config('minkocc_10'))"
    found = subprocess.run([binaries / "python", "-c", named], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert all(Path(line).exists() and Path(line).is_relative_to(tmp_path / "venv") for line in found.stdout.splitlines())


def test_files_are_found_in_a_folder_that_pip_was_given_as_target(wheel: Path, tmp_path: Path) -> None:
    binaries = fresh_environment(tmp_path / "venv")
    pip("install", "--no-deps", "--target", str(tmp_path / "vendored"), str(wheel))
    bundle = "from occle_core.bundle import find_bundle; print(find_bundle('kitti'))"
    vendored = {**environment(), "PYTHONPATH": str(tmp_path / "vendored")}
    found = subprocess.run([binaries / "python", "-c", bundle], cwd=tmp_path, env=vendored, capture_output=True, text=True)
    assert Path(found.stdout.strip()).is_relative_to(tmp_path / "vendored"), found.stderr


@pytest.mark.slow
def test_documented_training_commands_run_from_the_wheel_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    binaries = fresh_environment(tmp_path / "venv")
    pip("--python", str(binaries / "python"), "install", "--no-deps", str(wheel))
    asked = ["-m", "pytest", "-p", "no:cacheprovider", "-m", "", "-k", "commands_of_a_page"]
    asked += [f"--basetemp={tmp_path / 'pages'}", "test/training/commands/test_documented_commands.py"]
    named = {**os.environ, "OCCLE_TEST_BINARIES": str(binaries)}
    done = subprocess.run([sys.executable, *asked], cwd=ROOT, env=named, capture_output=True, text=True)
    assert done.returncode == 0 and "4 passed" in done.stdout, done.stdout + done.stderr


def test_an_editable_install_runs_outside_the_checkout(source: Path, tmp_path: Path) -> None:
    binaries = fresh_environment(tmp_path / "venv")
    pip("--python", str(binaries / "python"), "install", "--no-deps", "--no-build-isolation", "--editable", str(source))
    assert try_out(binaries, tmp_path) == [source / "occle_core", source / "occle_ros", source / "training" / "occle_train"]


@pytest.mark.skipif(shutil.which("colcon") is None, reason="colcon is not installed: pip install colcon-core colcon-ros")
@pytest.mark.parametrize("how", ["", "--symlink-install"])
def test_colcon_makes_all_three_packages_importable(source: Path, tmp_path: Path, how: str) -> None:
    workspace = tmp_path / "workspace"
    shutil.copytree(source, workspace / "src" / "occle_ros")
    built = subprocess.run(["colcon", "build", *how.split()], cwd=workspace, env=environment(), capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    # The packages of this environment come last, as those of a user do.
    dependencies = ":".join(site.getsitepackages())
    script = f'. install/setup.sh; cd /; PYTHONPATH="$PYTHONPATH:{dependencies}" exec "$0" -c "{TRY}"'
    done = subprocess.run(["sh", "-c", script, sys.executable], cwd=workspace, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(Path(line).is_relative_to(workspace) for line in done.stdout.split()), done.stdout


def test_every_source_file_names_its_licence() -> None:
    folders = (*PACKAGES[:2], "training", "launch", "benchmark", "examples", "scripts", "test")
    files = [file for folder in folders for suffix in ("py", "cpp", "h") for file in (ROOT / folder).rglob(f"*.{suffix}")]
    without = [
        str(file) for file in files if file.stat().st_size and "SPDX-License-Identifier: Apache-2.0" not in file.read_text()[:300]
    ]
    assert len(files) > 500 and not without


def test_the_version_stands_in_one_place() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", occle_core.__version__)
    assert ElementTree.parse(ROOT / "package.xml").findtext("version") == occle_core.__version__
    assert f"\n{occle_core.__version__} (" in (ROOT / "CHANGELOG.rst").read_text("utf-8")
    assert f"version: {occle_core.__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
