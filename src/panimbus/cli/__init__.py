"""The command ``panimbus``: one thin module per verb that parses, calls the library and saves."""

from __future__ import annotations

import importlib
import logging
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import entry_points
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
    """Ctrl-C or another signal (its cause), under a name that typer does not catch."""


class _PipeError(Exception):
    """A broken pipe, likewise."""


class _Group(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        """Run the verb; typer would end silently on Ctrl-C or a broken pipe."""
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
    rich_markup_mode="markdown",  # "rich" would hide [default: 1.0] and [[datasets]] as styles
    help=("Marker positivity of every cell in multiplexed tissue images, without retraining."),
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


_COMMANDS = (
    "predict", "merge", "inspect", "demo", "models", "fetch", "simulate", "build", "train",
    "finetune", "recalibrate", "controls", "batches", "ablate", "evaluate", "compare", "report",
    "view",
)  # fmt: skip
_GROUPS = ("annotate", "phenotype")
_FORMER = {"gold": "annotate"}
"""Former names of groups: they work with a warning for two minor releases."""
PLUGINS = "panimbus.commands"
"""Entry points of this group, typer apps, become verbs: other packages add ``panimbus NAME``."""


def _warn_of_former(former: str, name: str) -> Callable[[], None]:
    def warn() -> None:
        typer.echo(
            f"`panimbus {former}` is now `panimbus {name}`, with the same commands; the former name"
            " will be removed.",
            err=True,
        )

    return warn


def _register() -> None:
    for name in _COMMANDS:
        app.command(name)(importlib.import_module(f"panimbus.cli.{name}").command)
    for name in _GROUPS:
        app.add_typer(importlib.import_module(f"panimbus.cli.{name}").app, name=name)
    for former, name in _FORMER.items():
        group = importlib.import_module(f"panimbus.cli.{name}").app
        note = f"The former name of `panimbus {name}`, which replaces it."
        app.add_typer(
            group, name=former, hidden=True, help=note, callback=_warn_of_former(former, name)
        )
    for plugin in entry_points(group=PLUGINS):
        app.add_typer(plugin.load(), name=plugin.name)


_register()


def main() -> None:
    """Run the command line, without tracebacks.

    The exit code is 2 for an error that the user can fix, 1 for a bug, 128 plus its number for a
    signal.
    """
    logging.basicConfig(
        format="%(levelname)s: %(message)s", level=logging.WARNING, stream=sys.stderr
    )
    logging.captureWarnings(capture=True)
    warnings.formatwarning = lambda message, *_, **__: str(message)  # without source lines
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
            silence(sys.stdout)  # it may have failed, and would fail again at exit
        _stop(message, code)
    else:
        if isinstance(code, int) and code:
            sys.exit(code)


def _interrupted(error: BaseException | None) -> tuple[str, int]:
    by, code = (f" by {error}", error.code) if isinstance(error, Stopped) else ("", 130)
    message = f"Interrupted{by}. Finished parts are kept: run the same command again to continue."
    return message, code


def _ended_by(error: Exception) -> tuple[str, int]:
    """The message and the exit code of an exception."""
    from panimbus.core.guard import out_of_memory

    if not isinstance(error, PanimbusError) and out_of_memory(error):
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
    if _stdout_is_closed():  # as by `| head`
        silence(sys.stdout)
        return "", 141
    message = f"A connection broke: {error}\n  fix:       run the same command again; finished"
    return f"{message} parts are kept", 2


def _usage(error: Any) -> str:
    """The message about a wrong command line, with a hint at its help."""
    command = error.ctx.command_path if getattr(error, "ctx", None) is not None else "panimbus"
    if type(error).__name__ == "NoArgsIsHelpError":
        return str(error.format_message())
    message = str(error.format_message()).replace("Value error, ", "")
    positional = _positional(error)
    if positional is not None:
        given = f"{command} {positional} ..."
        return (
            f"{command}: {error.option_name}: {positional} is not an option but an argument.\n"
            f"  fix:       {given}"
        )
    return f"{command}: {message}\n  fix:       {command} --help lists arguments and options"


def _positional(error: Any) -> str | None:
    """The argument that an unknown option stands for, as in ``--images X`` for IMAGES."""
    name, context = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if type(error).__name__ != "NoSuchOption" or context is None or name is None:
        return None
    arguments = [p for p in context.command.params if p.param_type_name == "argument"]
    wanted = name.lstrip("-").lower().rstrip("s")
    return next(
        (str(p.metavar or p.name).upper() for p in arguments if str(p.name).rstrip("s") == wanted),
        None,
    )


def _stdout_is_closed() -> bool:
    """Whether standard output is a pipe without a reader (else another connection broke)."""
    try:
        import select

        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return bool(poll.poll(0))
    except (AttributeError, OSError, ValueError):  # Windows, or not a file
        return True


def _stop(message: str, code: int) -> None:
    if message:
        with suppress(OSError, ValueError):
            typer.echo(message, err=True)
    sys.exit(code)
