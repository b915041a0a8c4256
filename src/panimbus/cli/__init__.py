"""The command ``panimbus``: one thin file a verb; each parses, calls and saves."""

from __future__ import annotations

import errno
import logging
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from panimbus.core.errors import PanimbusError


class _InterruptedError(Exception):
    """Ctrl-C, under a name that typer does not swallow."""


class _Group(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        """Run the verb; typer would end a Ctrl-C without a word."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _InterruptedError from None


app = typer.Typer(
    name="panimbus",
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # "rich" would take [default: 1.0] and [[datasets]] for styles and show nothing
    help="Marker positivity for every cell and every marker of multiplexed tissue images, with no retraining.",
)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        from panimbus import __version__

        typer.echo(f"panimbus {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit


def _register() -> None:
    from panimbus.cli import (
        ablate,
        build,
        compare,
        demo,
        evaluate,
        fetch,
        finetune,
        gold,
        inspect,
        merge,
        models,
        phenotype,
        predict,
        simulate,
        train,
    )

    app.command("predict")(predict.command)
    app.command("merge")(merge.command)
    app.command("inspect")(inspect.command)
    app.command("demo")(demo.command)
    app.command("models")(models.command)
    app.command("fetch")(fetch.command)
    app.command("simulate")(simulate.command)
    app.command("build")(build.command)
    app.command("train")(train.command)
    app.command("finetune")(finetune.command)
    app.command("ablate")(ablate.command)
    app.command("evaluate")(evaluate.command)
    app.command("compare")(compare.command)
    app.add_typer(gold.app, name="gold")
    app.add_typer(phenotype.app, name="phenotype")


_register()


def main() -> None:
    """Entry point: a user's mistake is one message and exit code 2, an interrupt is 130, never a traceback."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.captureWarnings(capture=True)
    try:
        app()
    except PanimbusError as error:
        _stop(str(error), 2)
    except (KeyboardInterrupt, _InterruptedError):
        _stop("Interrupted. What was finished is kept: run the same command again to continue.", 130)
    except OSError as error:
        _stop(_about(error), 2)


def _about(error: OSError) -> str:
    where = error.filename or "a file"
    if error.errno == errno.ENOSPC:
        return (
            f"The disk is full: {where} could not be written.\n  fix:       free some space and run the same command again; "
            "what was finished is kept"
        )
    return f"{where}: {error.strerror or error}"


def _stop(message: str, code: int) -> None:
    typer.echo(message, err=True)
    sys.exit(code)
