"""`occle-train`: simulate streets, label images, train, get ready for engines, evaluate."""

from __future__ import annotations

import errno
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from occle_core.bundle import BundleError
from occle_core.datasets import DatasetError
from occle_core.engines.base import EngineError
from occle_core.frame import FrameError
from occle_train.commands import calibrate, evaluate, export, fit, fit_occle, label, simulate

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
EXPECTED = (BundleError, EngineError, DatasetError, FrameError, ValueError, KeyError, OSError, ModuleNotFoundError)
"""What a user can act on."""


class Commands(TyperGroup):
    """The commands; errors that a user can act on are one line on stderr and exit code 1, Ctrl-C is exit code 130."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was called."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _print("interrupted; a training is resumed from its last checkpoint with the same command")
            raise typer.Exit(130) from None
        except EXPECTED as error:
            _print(one_line(error))
            raise typer.Exit(1) from error
        except EOFError as error:  # of which typer would say "Aborted." and nothing else
            raise RuntimeError("a file ended before its end") from error
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            _print(
                f"a loader process died: {str(error).splitlines()[0]} Where /dev/shm is full (df -h /dev/shm; 64 MB in a container "
                "by default), enlarge it (docker run --shm-size=2g) or set workers: 0 in --config; where memory is, fewer"
            )
            raise typer.Exit(1) from error


app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.command()(simulate.simulate)
app.command()(label.label)
app.command("fit")(fit.fit_command)
app.command("fit-occle")(fit_occle.fit_command)
app.command()(export.export)
app.command()(evaluate.evaluate)
app.command()(calibrate.calibrate)


def main() -> None:
    """Entry point."""
    app()


def one_line(error: Exception) -> str:
    """What went wrong, without the traceback that torch adds to errors of its loader processes."""
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
    return text


def _print(text: str) -> None:
    Console(stderr=True).print("[red]error:[/red]", escape(text), highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
