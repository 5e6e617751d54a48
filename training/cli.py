"""`occle-train`: simulate streets, label images, train, get ready for engines, evaluate."""

from __future__ import annotations

import click
import typer
from rich.console import Console
from rich.markup import escape

from occle_core.bundle import BundleError
from occle_core.datasets import DatasetError
from occle_core.engines import EngineError
from occle_core.frame import FrameError
from training.commands import evaluate, export, fit, fit_occle, label, simulate

EXPECTED = (BundleError, EngineError, DatasetError, FrameError, ValueError, KeyError, OSError, ModuleNotFoundError)
"""What a user can act on."""

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.command()(simulate.simulate)
app.command()(label.label)
app.command("fit")(fit.fit_command)
app.command("fit-occle")(fit_occle.fit_command)
app.command()(export.export)
app.command()(evaluate.evaluate)


def main() -> None:
    """Entry point: errors that a user can act on are one line on stderr and exit code 1; Ctrl-C is exit code 130."""
    try:
        code = app(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort as error:
        # click turns Ctrl-C, and an end of file that nobody expected, into the same.
        if error.__cause__ is not None and not isinstance(error.__cause__, KeyboardInterrupt):
            raise error.__cause__ from None
        _print("interrupted; a training goes on from its last checkpoint with the same command")
        code = 130
    except EXPECTED as error:
        _print(one_line(error))
        code = 1
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        _print(
            f"a loader process died: {str(error).splitlines()[0]} Where /dev/shm is full (df -h /dev/shm; 64 MB in a container by "
            "default), enlarge it (docker run --shm-size=2g) or set workers: 0 in --config; where memory is, set fewer workers"
        )
        code = 1
    raise SystemExit(code)


def one_line(error: Exception) -> str:
    """What went wrong, without the traceback that torch adds to errors of its loader processes."""
    if isinstance(error, KeyError) and error.args:
        return str(error.args[0])  # its text would be that in quotation marks
    text = str(error).strip()
    if "Original Traceback" in text:
        return text.splitlines()[-1].partition(": ")[2]
    return text


def _print(text: str) -> None:
    Console(stderr=True).print("[red]error:[/red]", escape(text), highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
