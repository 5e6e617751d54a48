# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Installation: the script for ROS distributions, requirements, constraints, the floor of Python."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DISTRIBUTIONS = ("humble", "jazzy", "kilted", "lyrical")
SETUP = runpy.run_path(str(ROOT / "setup.py"), run_name="requirements")


def install(*words: str, ros_root: Path, distro: str = "") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "ROS_DISTRO"}
    environment |= {"OCCLE_ROS_ROOT": str(ros_root), "HOME": str(ros_root)} | ({"ROS_DISTRO": distro} if distro else {})
    return subprocess.run(
        [str(ROOT / "scripts/install_ros.sh"), "--dry-run", *words], capture_output=True, text=True, env=environment, timeout=60
    )


def ros(root: Path, *names: str) -> Path:
    """A folder like /opt/ros with these distributions."""
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / "setup.bash").touch()
    return root


@pytest.mark.parametrize("distro", DISTRIBUTIONS)
def test_a_dry_run_prints_every_step_and_changes_nothing(tmp_path: Path, distro: str) -> None:
    root = ros(tmp_path / "ros", distro)
    done = install(ros_root=root)
    assert done.returncode == 0, done.stderr
    steps = [line.strip() for line in done.stdout.splitlines() if line.startswith("  $ ")]
    order = [
        "--system-site-packages",
        "COLCON_IGNORE",
        "requirements.py",
        "occle_requirements.txt",
        "colcon build",
        "build_only:=true",
    ]
    at = [next(number for number, step in enumerate(steps) if word in step) for word in order]
    assert at == sorted(at)
    assert f"constraints/{distro}.txt" in done.stdout and "occle doctor" in done.stdout
    assert [path.name for path in root.iterdir()] == [distro]


def test_the_distribution_is_found_or_asked_for(tmp_path: Path) -> None:
    assert "ROS 2 jazzy" in install(ros_root=ros(tmp_path / "one", "jazzy")).stdout
    assert "ROS 2 kilted" in install(ros_root=ros(tmp_path / "two", "jazzy", "kilted"), distro="kilted").stdout
    for done, message in (
        (install(ros_root=ros(tmp_path / "three", "jazzy", "kilted")), "several ROS 2 installations in .*; name one with --distro"),
        (install(ros_root=tmp_path / "none"), "no ROS 2 installation in"),
        (install("--distro", "foxy", ros_root=tmp_path), "'foxy' is not supported; tested versions exist for: humble jazzy"),
        (install("--fast", ros_root=tmp_path), "unknown option --fast"),
        (install("--distro", ros_root=tmp_path), "--distro needs a value"),
    ):
        assert done.returncode == 1 and re.search(message, done.stderr), done.stderr


def test_the_systems_numpy_and_opencv_and_an_installed_torch_stay() -> None:
    """What the script leaves to the system, from the requirements that it installs."""
    out = subprocess.run(
        [sys.executable, ROOT / "scripts/requirements.py", "--extras", "engines", "--without", "opencv-python-headless", "torch"],
        capture_output=True, text=True, check=True,
    ).stdout.split("\n")  # fmt: skip
    names = [re.split("[<>=;]", line)[0] for line in out if line]
    assert "torch" not in names and "opencv-python-headless" not in names
    assert {"numpy", "pydantic", "openvino"} <= set(names)
    script = (ROOT / "scripts/install_ros.sh").read_text()
    assert "for name in numpy torch; do" in script and 'printf \'%s==%s\\n\' "$name" "$version"' in script


@pytest.mark.parametrize("name", ["pip", *DISTRIBUTIONS])
def test_constraints_lie_in_the_ranges_of_setup(name: str) -> None:
    packaging = pytest.importorskip("packaging.requirements")
    pins = {}
    for line in (ROOT / "constraints" / f"{name}.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pin, version = re.fullmatch(r"([\w.-]+)==([\w.]+)(?:; .*)?", line).groups()
            pins.setdefault(pin, []).append(version)
    ranges = [packaging.Requirement(line) for line in (*SETUP["CORE"], *SETUP["EXTRAS"]["engines"], *SETUP["EXTRAS"]["train"])]
    for wanted in ranges:
        if name == "lyrical" and wanted.name == "backports.zstd":
            continue  # part of Python 3.14
        assert wanted.name in pins, f"constraints/{name}.txt does not name {wanted.name}"
        assert all(wanted.specifier.contains(version) for version in pins[wanted.name]), wanted


def test_nothing_replaces_an_installed_torch() -> None:
    """The Makefile, the script and the images install torch only where it cannot be imported."""
    assert "import torch' 2>/dev/null || $(PIP) torch" in (ROOT / "Makefile").read_text()
    assert "if ! imports torch; then" in (ROOT / "scripts/install_ros.sh").read_text()
    core = [line for line in SETUP["CORE"] if line.startswith("torch")]
    assert core == ["torch>=2.8"]


def test_the_demo_needs_no_package_without_an_arm64_wheel() -> None:
    """Of what has wheels for one machine alone; the rest of the demo's packages are checked by scripts/check_wheels.py."""
    packaging = pytest.importorskip("packaging.requirements")
    wanted = [packaging.Requirement(line) for line in (*SETUP["EXTRAS"]["ros"], *SETUP["EXTRAS"]["simulate"])]
    for machine, caster in (("x86_64", "embreex"), ("aarch64", "libigl")):
        there = {one.name for one in wanted if one.marker.evaluate({"platform_machine": machine})}
        assert {name for name in there if not name.startswith("ros-")} == {caster}
        assert (machine == "x86_64") == any(name.startswith("ros-") for name in there)
    assert ".[ros,engines,simulate]" in (ROOT / "Makefile").read_text()


def test_the_code_runs_on_python_3_10() -> None:
    """Syntax and standard library, by a static check; the workflows run the tests on 3.10, 3.12 and 3.14."""
    folders = ["occle_core", "occle_ros", "training", "launch", "examples", "scripts", "setup.py"]
    done = subprocess.run(
        [Path(sys.executable).with_name("vermin"), "-q", "--no-tips", "--violations", "-t=3.10-", "--eval-annotations", *folders],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    workflow = (ROOT / ".github/workflows/tests.yml").read_text()
    assert all(f'"{version}"' in workflow for version in ("3.10", "3.12", "3.14"))


def test_shell_scripts_parse() -> None:
    for script in (*(ROOT / "scripts").glob("*.sh"), *(ROOT / "docker").glob("*.sh")):
        assert subprocess.run(["bash", "-n", script], capture_output=True).returncode == 0
        assert script.stat().st_mode & 0o111


def test_containers_build_from_the_scripts_that_are_tested() -> None:
    for file in (ROOT / "docker").glob("*.Dockerfile"):
        text = file.read_text()
        assert text.count("FROM ") == 1 and 'SHELL ["/bin/bash", "-o", "pipefail", "-c"]' in text
        for option in re.findall(r"install_ros\.sh ([^\\&]+)", text):
            known = (ROOT / "scripts/install_ros.sh").read_text()
            assert all(word in known for word in option.split() if word.startswith("--"))
