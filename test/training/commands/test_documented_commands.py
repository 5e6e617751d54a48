# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Every training command of README and the how-to pages runs, in the order of its page, on tiny data."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import cv2
import numpy as np
import pytest
import typer
from forked_python import run_python
from occle_train.cli import COMMANDS, app
from occle_train.commands.common import console
from occle_train.configs import config_names
from occle_train.data.samples import open_all
from occle_train.pseudo_labels.label_folder import label_file
from occle_train.streets import simulate
from ros_process import own_domain
from typer.testing import CliRunner

from occle_core.bags.bag_file import open_bag
from occle_core.bundle import load_bundle
from occle_core.taxonomy import load

ROOT = Path(__file__).resolve().parents[3]
OWN_ROBOT = "docs/tutorials/my_own_robot.md"
INDOOR = "docs/how_to/indoor.md"
PAGES = (
    "README.md",
    pytest.param("docs/how_to/train_minkocc.md", marks=pytest.mark.slow),
    pytest.param("docs/how_to/shipped_bundles.md", marks=pytest.mark.slow),
    pytest.param("docs/how_to/train_occle.md", marks=pytest.mark.slow),
    pytest.param("docs/how_to/own_classes.md", marks=pytest.mark.slow),
    pytest.param(INDOOR, marks=pytest.mark.slow),
)
ELSEWHERE = ("pip install", "make", "ros2 launch", "source ", "export ")
"""Commands that are no training's: they are tested where they belong."""
LIVE = ("occle node", "occle record", "occle play")
"""What runs beside each other in a ROS graph."""
QUICK = (
    (r"--drives \d+", "--drives 2"), (r"--frames \d+ --every \d+", "--frames 3 --every 2"), (r"--frames \d+", "--frames 2"),
    (r" --scale [\d.]+", ""), (r"(occle-train simulate \S+)", r"\1 --scale 0.1 --workers 1"),
    (r"--scale 0.1 (--workers 1 --rig out/rig.yaml)", r"\1"),  # the recording's images are small already
    (r" --size \w+", ""), (r" --steps \d+", ""),
    (r" --max-minutes \d+", ""), (r" --set \S*learning_rate=\S+", ""), (r"\bDATA\b", "data"), (r"00,01,[\d,]+", "00"),
    (r"--sequences 08", "--sequences 01"), (r"-sequences 08", "-sequences 01"),
    ("my_classes.yaml", str(ROOT / "examples/own_classes/classes.yaml")),
)  # fmt: skip
"""What makes a documented command a tiny one: pattern and replacement."""
BINARIES = os.environ.get("OCCLE_TEST_BINARIES")
"""Folder of the console scripts to run instead of this process's code: those of an installed wheel (test_packaging.py)."""
TINY = {
    "fit": "--size tiny --steps 24 --set learning_rate=0.01 --threads 1",
    "export": "--engines torch",
    "fit-occle": "--size tiny --steps 24 --set recipe.learning_rate=0.01 --threads 1",
}
SMALL_VIEWS = "--set recipe.num_views=1 --set recipe.view_width=32 --set recipe.view_height=18"


def commands(page: str) -> list[list[str]]:
    """The command lines of a page's fenced blocks, continued lines joined; what follows "Without the data" is a list of its own."""
    parts: list[list[str]] = []
    for text in re.split(r"^## Without the data", (ROOT / page).read_text("utf-8"), flags=re.MULTILINE):
        blocks = re.findall(r"^```(.*?)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        lines = [line for kind, block in blocks if not kind for line in block.replace("\\\n", " ").splitlines()]
        parts.append([re.sub(r"\s+", " ", line.partition(" # ")[0]).strip() for line in lines if line.strip()])
    return parts


def tiny(command: str, models: dict[str, Path]) -> str:
    """A command at tiny scale."""
    if " --bag " in command and command.startswith("occle-train simulate"):
        return re.sub(r"--frames \d+ --scale [\d.]+", "--frames 8 --scale 0.25", command)
    for pattern, replacement in QUICK:
        command = re.sub(pattern, replacement, command)
    for option, folder in models.items():
        command = re.sub(rf"--{option} \S+", f"--{option} {folder}", command)
    words = command.split()
    if words[:1] == ["occle-train"] and words[1] in TINY:
        command += f" {TINY[words[1]]}"
        if words[1] == "fit":
            command += f" {SMALL_VIEWS}" if re.search(r"minkocc_\d", command) else ""
            command += " --set batch_size=1" if "minkocc_bundle" in command else ""
    return command


def run(command: str) -> str:
    """Run a command in the working folder; `occle-train` in this process. Returns what it printed."""
    listed = re.sub(r"\$\(paste -sd, (\S+)\)", lambda found: ",".join(Path(found[1]).read_text().split()), command)
    words = shlex.split(listed)
    if BINARIES:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        called = [f"{BINARIES}/{words[0]}", *words[1:]]
        found = subprocess.run(called, capture_output=True, text=True, timeout=600, env=environment)
        assert found.returncode == 0, f"{command}\n{found.stdout}{found.stderr}"
        return found.stdout
    if words[0] == "occle-train":
        console.quiet = False
        done = CliRunner().invoke(app, words[1:])
        assert done.exit_code == 0, f"{command}\n{done.output}\n{done.exception!r}"
        return done.output
    if words[:2] == ["python", "-m"]:
        assert import_module(words[2]).main(words[3:]) == 0, command
        return ""
    if words[0] in ("cp", "echo"):
        subprocess.run(command, shell=True, check=True)
        return ""
    assert words[0] == "occle", f"no test knows how to run: {command}"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "training")])}
    found = run_python(["-m", "occle_ros.cli", *words[1:]], environment=environment)
    assert found.returncode == 0, f"{command}\n{found.stdout}{found.stderr}"
    return found.stdout


def run_live(lines: list[str], folder: Path) -> None:
    """Run node and recorder, each in its terminal, and the player to its end; the recorder ends by itself."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "training")]), "OMP_NUM_THREADS": "1"}
    others = []
    for number, line in enumerate(line for line in lines if not line.startswith("occle play")):
        command = [sys.executable, "-m", "occle_ros.cli", *shlex.split(line)[1:]]
        with (folder / f"terminal_{number}.log").open("wb") as log:
            others.append(subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT))
    try:
        for line in lines:
            if line.startswith("occle play"):
                run(line)
        assert others[1].wait(60) == 0, (folder / "terminal_1.log").read_text()
    finally:
        for process in others:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Detector and segmenter with random weights."""
    pytest.importorskip("transformers", reason="pip install transformers")
    from tiny_models import save_grounding_dino, save_sam

    folder = tmp_path_factory.mktemp("models")
    return {"detector": Path(save_grounding_dino(folder / "dino")), "segmenter": Path(save_sam(folder / "sam"))}


def prepare(page: str) -> dict[str, Path]:
    """What the reader of a page has: a data set, lists of scenes, label maps of MSeg. Returns folders of models."""
    if page == "README.md":
        return {}
    if page == "docs/how_to/shipped_bundles.md":
        return {}
    if page in (OWN_ROBOT, INDOOR):
        Path("examples").symlink_to(ROOT / "examples")
        return {}
    rig = "nuscenes" if "minkocc" in page else "kitti"
    simulate(Path("data"), rig, drives=2, frames=2, seed=3, scale=0.1, workers=1)
    datasets = open_all(Path("data"))
    Path("train_scenes.txt").write_text(f"{datasets[0].name}\n")
    Path("val_scenes.txt").write_text(f"{datasets[1].name}\n")
    if "occle" not in page:
        return {}
    for dataset in datasets:
        for i in range(len(dataset)):
            for camera in dataset.camera_names:
                file = label_file(Path("mseg"), dataset, i, camera)
                file.parent.mkdir(parents=True, exist_ok=True)
                image = dataset.image_file(i, camera)
                assert image is not None
                shape = cv2.imread(str(image)).shape[:2]
                cv2.imwrite(str(file), np.full(shape, 98, np.uint8))  # road, in MSeg's universal ids
    return {"specific": Path("mseg")}


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run(page: str, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, part in enumerate(commands(page)):
        (tmp_path / str(number)).mkdir()
        monkeypatch.chdir(tmp_path / str(number))
        folders = models | (prepare(page) if number == 0 else {})
        found = [line for line in part if not line.startswith(ELSEWHERE)]
        assert sum(line.startswith("occle-train") for line in found) >= 2
        printed = [run(tiny(line, folders)) for line in found]
        assert any("IoU" in text for text in printed)
        for bundle in re.findall(r"--bundle (out/\S+)", " ".join(found)):
            load_bundle(bundle)
        if page == INDOOR:
            for block in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL):
                exec(compile(block, page, "exec"), {})
            assert Path("out/indoor.jpg").stat().st_size > 10_000


def test_options_and_configurations_that_any_page_names_exist() -> None:
    """Of commands that no test can run as well, such as those of the papers' tables at full scale."""
    root, known, named = typer.main.get_command(app), set(config_names()), []
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        text = page.read_text("utf-8").replace("\\\n", " ")
        lines = [line for block in re.findall(r"^```.*?\n(.*?)^```$", text, re.M | re.S) for line in block.splitlines()]
        lines += [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))]
        named += [(page.name, *found) for line in lines for found in re.findall(r"occle-train ([a-z-]+)([^#]*)", line)]
    assert len(named) > 100
    for page_name, name, rest in named:
        assert name in COMMANDS, f"{page_name}: {name}"
        command = root.resolve_command(click.Context(root), [name])[1]
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert set(re.findall(r"(?<= )--[a-z][a-z0-9-]*", rest)) <= options, f"{page_name}: {name}{rest}"
        assert set(re.findall(r"--config ([a-z0-9_]+)(?![\w./])", rest)) <= known, f"{page_name}: {name}{rest}"


@pytest.mark.slow
@pytest.mark.ros
def test_a_recording_of_an_odd_rig_becomes_voxels_of_its_own_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rclpy", reason="no ROS 2 Python packages")
    monkeypatch.chdir(tmp_path)
    prepare(OWN_ROBOT)
    lines = [line for part in commands(OWN_ROBOT) for line in part if not line.startswith(ELSEWHERE)]
    live = [line for line in lines if line.startswith(LIVE)]
    printed = {line: run(tiny(line, {})) for line in lines if line not in live}
    assert {" ".join(line.split()[:2]) for line in lines} >= {
        "occle rig", "occle-train prepare", "occle-train simulate", "occle-train fit", "occle-train evaluate", "occle run",
        "occle node", "occle play",
    }  # fmt: skip
    assert any("obstacle" in text for text in printed.values())
    spec = load_bundle("out/my_robot")[0]
    assert spec.network.num_cameras == 3 and "person" in load(spec.taxonomy).names
    with own_domain(monkeypatch):
        run_live(live, tmp_path)
    with open_bag(Path("out/live")) as bag:
        assert sum(1 for _ in bag.messages()) >= 3


def test_python_blocks_of_the_python_page_are_a_script(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/how_to/python.md").read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 5
    found = "print('found', len(centers), centers.shape[1], len(labels), len(confidence))\n"
    (tmp_path / "script.py").write_text("\n".join([*blocks, found]), "utf-8")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "training")]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "script.py"]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0, ran.stderr
    count, dimensions, *others = map(int, ran.stdout.splitlines()[-1].split()[1:])
    assert dimensions == 3 and count > 100 and others == [count, count]
    assert (tmp_path / "out/page.png").stat().st_size > 10_000
    load_bundle(tmp_path / "out/bundle")
