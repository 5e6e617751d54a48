# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A command that trains runs the sparse layers on compiled kernels, and leaves them on PyTorch, however it ends."""

import pytest
from compiled_kernels import load_or_skip
from occle_train.cli import app
from occle_train.commands import fit, fit_occle
from occle_train.commands.recordings import adapt, choose
from typer.testing import CliRunner

from occle_core.sparse import native_gemm

CPU = ("--threads", 1, "--device", "cpu")
TINY = ("--size", "tiny", "--steps", "24", "--set", "learning_rate=0.01")


@pytest.fixture(autouse=True)
def _loaded():
    load_or_skip()
    assert not on_kernels()


def on_kernels():
    """Whether the sparse layers of this process run on the kernels, which are loaded."""
    return native_gemm.workspace() is not None


def run(*arguments):
    done = CliRunner().invoke(app, [str(word) for word in arguments])
    return done.exit_code, done.output


def test_after_a_training(simulated, tmp_path, monkeypatch):
    seen, train = [], fit.fit

    def watched(*arguments, **named):
        seen.append(on_kernels())
        return train(*arguments, **named)

    monkeypatch.setattr(fit, "fit", watched)
    code, said = run("fit", "--data", simulated("kitti"), "--out", tmp_path / "run", *TINY, *CPU)
    assert code == 0 and seen == [True], said
    assert not on_kernels()
    with native_gemm.use_kernels():
        run("fit", "--resume", tmp_path / "run", *CPU)
        assert on_kernels()  # as before the training, whatever that was


@pytest.mark.parametrize("command", ["fit", "fit-occle", "adapt", "choose"])
def test_after_an_exception(simulated, tmp_path, monkeypatch, command):
    data, seen = simulated("kitti"), []

    def fail(*arguments, **named):
        seen.append(on_kernels())
        raise FloatingPointError("the loss is nan")

    if command == "fit-occle":
        assert run("label", "--data", data, "--out", tmp_path / "labels", "--simulated")[0] == 0
    module, name, arguments = {
        "fit": (fit, "fit", ("--data", data, *TINY)),
        "fit-occle": (fit_occle, "fit_occle", ("--data", data, "--labels", tmp_path / "labels", *TINY[:4])),
        "adapt": (adapt, "adapt", ("kitti", "--data", data, "--simulated", data)),
        "choose": (choose, "candidates", ("--bundle", "kitti", "--data", data)),
    }[command]
    monkeypatch.setattr(module, name, fail)
    code, said = run(command, *arguments, *CPU, *(() if command == "choose" else ("--out", tmp_path / "run")))
    assert code == 1 and seen == [True], said
    assert not on_kernels()
