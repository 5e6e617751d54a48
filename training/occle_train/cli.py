# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle-train`: simulate streets, label images, train, get ready for engines, evaluate."""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

RANK = os.environ.get("RANK", "0")
"""Number of this process among those that train together."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LOST = "gloo/transport"
"""In torch's error of a process that waits for one that has ended."""
COMMANDS = {
    "simulate": ("simulate", "simulate", "Simulate street drives: a data set to try everything with."),
    "prepare": ("prepare", "prepare", "Write recordings as frames with poses, to label and to train on."),
    "label": ("label", "label", "Make 2D pseudo-labels of images for the recipes."),
    "targets": ("targets", "targets", "Make MinkOcc's weak targets before a training."),
    "review": ("recordings.review", "review", "Write a page to judge pseudo-labels by, before a training."),
    "fit": ("fit", "fit_command", "Train MinkOcc, on voxel labels or by the label-efficient recipe."),
    "fit-occle": ("fit_occle", "fit_command", "Train OccLE from few voxel annotations and 2D pseudo-labels."),
    "adapt": ("recordings.adapt", "adapt_command", "Adapt a bundle to recordings without labels."),
    "choose": ("recordings.choose", "choose", "Rank recorded frames by what labelling them would teach."),
    "list": ("runs", "list_runs", "List the runs of a folder with their scores."),
    "compare": ("runs", "compare", "Show what two runs differ in, settings and scores."),
    "bundle": ("runs", "write_bundle", "Write the bundle of a run or a checkpoint, finished or not."),
    "evaluate": ("evaluate", "evaluate", "Score a bundle on labelled frames."),
    "submit": ("submit", "submit", "Write a submission for SemanticKITTI's hidden test set."),
    "calibrate": ("calibrate", "calibrate", "Fit calibrated probabilities for a bundle on held-out frames."),
    "export": ("export", "export", "Get a bundle ready for inference engines."),
}
"""Command -> module of occle_train.commands, its function, and the help's line: PyTorch is imported when a command runs."""


class Commands(TyperGroup):
    """The commands; errors that a user can act on are one line on stderr and exit code 1, Ctrl-C is exit code 130."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of a user's work."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, name: str) -> Any:
        """A command's name and help alone; `resolve_command` loads it."""
        return TyperCommand(name, help=COMMANDS[name][2]) if name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that was called, loaded."""
        name, _, rest = super().resolve_command(ctx, args)
        if name not in COMMANDS:
            return name, None, rest
        module, function, _ = COMMANDS[name]
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        alone.command(name)(getattr(import_module(f"occle_train.commands.{module}"), function))
        return name, typer.main.get_command(alone), rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was called."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            if RANK == "0":
                _print("interrupted")
            raise typer.Exit(130) from None
        except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except EOFError as error:  # of which typer would say "Aborted." and nothing else
            raise RuntimeError("a file ended before its end") from error
        except Exception as error:
            if not is_expected(error):
                raise
            _print(one_line(error))
            raise typer.Exit(1) from error


app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.callback()
def _commands() -> None:
    pass


_commands.__doc__ = __doc__


def main() -> None:
    """Entry point."""
    app()


def is_expected(error: Exception) -> bool:
    """Whether a user can act on an error; others are faults of the program, and keep their traceback."""
    from occle_core.errors import EngineError  # ValueError covers the other errors of occle's own

    expected = (EngineError, ValueError, KeyError, FloatingPointError, OSError, ModuleNotFoundError)
    return isinstance(error, expected) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in ("DataLoader worker", LOST))
    )


def one_line(error: Exception) -> str:
    """An error's message, without the traceback that torch adds to errors of its loader processes."""
    if isinstance(error, KeyError) and error.args:
        return str(error.args[0])  # its text would be that in quotation marks
    if isinstance(error, OSError) and error.errno in FULL:
        return (
            f"the disk is full ({error.strerror}{f': {error.filename}' if error.filename else ''}); free space, or write elsewhere"
        )
    if isinstance(error, PermissionError):
        return f"{error.filename}: permission denied; change its mode or owner, or use another place"
    text = str(error).strip()
    if "Original Traceback" in text:
        return text.splitlines()[-1].partition(": ")[2]
    if LOST in text:
        return "another process of this training has ended; the reason is its own error"
    if "DataLoader worker" in text:
        return (
            f"a loader process died: {text.splitlines()[0]} Where /dev/shm is full (df -h /dev/shm; 64 MB in a container "
            "by default), enlarge it (docker run --shm-size=2g) or give --set num_workers=0; where memory is, fewer"
        )
    return text


def _print(text: str) -> None:
    where = f"process {RANK}: " if RANK != "0" else ""
    Console(stderr=True).print("[red]error:[/red]", escape(where + text), highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
