"""`occle-train`: simulate streets, label images, train, get ready for engines, evaluate."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.markup import escape

from occle_core.bundle import BundleError
from occle_core.datasets import DatasetError
from occle_core.engines import EngineError
from occle_core.frame import FrameError
from training.commands import evaluate, export, fit, fit_occle, label, simulate

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.command()(simulate.simulate)
app.command()(label.label)
app.command("fit")(fit.fit_command)
app.command("fit-occle")(fit_occle.fit_command)
app.command()(export.export)
app.command()(evaluate.evaluate)


def main() -> None:
    """Entry point: errors that a user can mend are one line on stderr and exit code 1."""
    try:
        app()
    except (BundleError, EngineError, DatasetError, FrameError, ValueError, KeyError, OSError, ModuleNotFoundError) as error:
        # A KeyError's text is its argument in quotation marks.
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        Console(stderr=True).print("[red]error:[/red]", escape(str(text)), highlight=False, soft_wrap=True)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
