"""The command ``panimbus``: one thin file a verb; each parses, calls and saves."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from panimbus.cli.ending import (
    Stopped,
    about_fault,
    about_memory,
    about_os_error,
    catch_signals,
    make_streams_lenient,
    silence,
)
from panimbus.core.errors import PanimbusError


class _InterruptedError(Exception):
    """Ctrl-C or another signal (its cause), under a name that typer does not swallow."""


class _PipeError(Exception):
    """A broken pipe, likewise."""


class _Group(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        """Run the verb; typer would end a Ctrl-C or a broken pipe without a word."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise _InterruptedError from interrupt
        except BrokenPipeError as error:
            raise _PipeError(str(error)) from error


_USAGE: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


app = typer.Typer(
    name="panimbus",
    cls=_Group,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # "rich" would take [default: 1.0] and [[datasets]] for styles and show nothing
    help=(
        "Marker positivity for every cell and every marker of multiplexed tissue images, with no"
        " retraining."
    ),
)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)
    ] = False,
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
    """Entry point.

    A user's mistake is one message and exit code 2, a signal is 128 and its number, never a
    traceback.
    """
    logging.basicConfig(
        format="%(levelname)s: %(message)s", level=logging.WARNING, stream=sys.stderr
    )
    logging.captureWarnings(capture=True)
    warnings.formatwarning = lambda message, *_args, **_more: str(
        message
    )  # without lines of the source
    make_streams_lenient()
    catch_signals()
    try:
        code = app(prog_name="panimbus", standalone_mode=False)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except KeyboardInterrupt as error:
        _stop(*_interrupted(error))
    except Exception as error:  # noqa: BLE001 (the last line before a traceback)
        message, code = _ended_by(error)
        if isinstance(error, OSError):
            silence(sys.stdout)  # it may be what failed, and would fail again at the end
        _stop(message, code)
    else:
        if isinstance(code, int) and code:
            sys.exit(code)


def _interrupted(error: BaseException | None) -> tuple[str, int]:
    by, code = (f" by {error}", error.code) if isinstance(error, Stopped) else ("", 130)
    return (
        f"Interrupted{by}. What was finished is kept: run the same command again to continue.",
        code,
    )


def _ended_by(error: Exception) -> tuple[str, int]:
    """The message and the exit code of an exception: 2 if a user can mend it, 1 if it is ours."""
    from panimbus.core.guard import out_of_memory

    if not isinstance(error, PanimbusError) and out_of_memory(
        error
    ):  # libraries say so in errors of many kinds
        return about_memory(error, _options()), 2
    ends: tuple[tuple[Any, Callable[[Any], tuple[str, int]]], ...] = (
        (PanimbusError, lambda e: (str(e), 2)),
        (_InterruptedError, lambda e: _interrupted(e.__cause__)),
        ((BrokenPipeError, _PipeError), _broken_pipe),
        (OSError, lambda e: (about_os_error(e), 2)),
        (typer.Abort, lambda _: ("", 130)),
        (_USAGE, lambda e: (_usage(e), int(getattr(e, "exit_code", 2)))),
        (Exception, lambda e: (about_fault(e), 1)),
    )
    return next(end(error) for kind, end in ends if isinstance(error, kind))


def _options() -> set[str]:
    """Names of the options of the verb that was called."""
    verb = next((a for a in sys.argv[1:] if not a.startswith("-")), "")
    command = getattr(typer.main.get_command(app), "commands", {}).get(verb)
    return {name for parameter in getattr(command, "params", []) for name in parameter.opts}


def _broken_pipe(error: Exception) -> tuple[str, int]:
    if _nobody_reads():  # `| head` has seen enough
        silence(sys.stdout)
        return "", 141
    return (
        (
            f"A connection broke: {error}\n  fix:       run the same command again; what was"
            " finished is kept"
        ),
        2,
    )


def _usage(error: Any) -> str:
    """What is wrong with the command line, in the words of the parser, and where its options are
    listed.
    """
    command = error.ctx.command_path if getattr(error, "ctx", None) is not None else "panimbus"
    if type(error).__name__ == "NoArgsIsHelpError":
        return str(error.format_message())
    message = str(error.format_message()).replace("Value error, ", "")
    positional = _positional(error)
    if positional is not None:
        given = f"{command} {positional} ..."
        return (
            f"{command}: {error.option_name}: {positional} is not an option; it is given by its"
            f" place.\n  fix:       {given}"
        )
    return f"{command}: {message}\n  fix:       {command} --help lists arguments and options"


def _positional(error: Any) -> str | None:
    """The argument that was meant by an option that does not exist.

    ``--images X`` where IMAGES is given by its place.
    """
    name, context = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if type(error).__name__ != "NoSuchOption" or context is None or name is None:
        return None
    arguments = [p for p in context.command.params if p.param_type_name == "argument"]
    wanted = name.lstrip("-").lower().rstrip("s")
    return next(
        (str(p.metavar or p.name).upper() for p in arguments if str(p.name).rstrip("s") == wanted),
        None,
    )


def _nobody_reads() -> bool:
    """Whether standard output is a pipe whose reader is gone (else a broken connection is an error
    like any other).
    """
    try:
        import select

        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return bool(poll.poll(0))
    except (AttributeError, OSError, ValueError):  # Windows; or no file at all
        return True


def _stop(message: str, code: int) -> None:
    if message:
        with suppress(OSError, ValueError):
            typer.echo(message, err=True)
    sys.exit(code)
