"""How a run ends: signals, faults and closed streams, each with one message and an exit code."""

from __future__ import annotations

import codecs
import errno
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from panimbus.cli.inputs import command_line

DEBUG = "PANIMBUS_DEBUG"
_SAVINGS = (
    ("--tile", "a smaller --tile (e.g. 512)"),
    ("--threads", "fewer --threads"),
    ("--channels", "fewer --channels at a time"),
    ("--workers", "--workers 0"),
    ("--side", "a smaller --side"),
)
_PLAIN = {
    "µ": "u",
    "²": "2",
    "³": "3",
    "×": "x",
    "–": "-",
    "—": "-",
    "Ø": "diam.",
    "±": "+/-",
    "≥": ">=",
    "≤": "<=",
    "’": "'",
}


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP; ends a run like Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def code(self) -> int:
        """The exit code: 128 plus the number of the signal, as in shells."""
        return 128 + self.number


def catch_signals() -> None:
    """Raise `Stopped` on SIGTERM and SIGHUP in this process, but not in its children.

    A signal that is ignored, as under nohup, stays ignored.
    """
    process = os.getpid()

    def stop(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != process:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt the clean-up
        raise Stopped(number)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        with suppress(ValueError, OSError):  # not the main thread
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, stop)


def make_streams_lenient() -> None:
    """Replace characters that the terminal cannot show (µm by um) instead of failing."""
    codecs.register_error("panimbus", _in_plain_letters)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None and getattr(stream, "errors", "") != "panimbus":
            reconfigure(errors="panimbus")


def _in_plain_letters(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(c, "?") for c in error.object[error.start : error.end]), error.end


def about_os_error(error: OSError) -> str:
    """The message about an error of the operating system."""
    where = error.filename or "the output"
    if error.errno == errno.ENOSPC:
        return (
            f"The disk is full: {where} could not be written.\n  fix:       free some space and run"
            " the same command again; finished parts are kept"
        )
    return f"{where}: {error.strerror or error}"


def about_memory(error: Exception, options: Iterable[str] = ()) -> str:
    """The message about too little memory, with the options of the command that reduce its use."""
    from panimbus.core.guard import describe_error

    savings = [saving for option, saving in _SAVINGS if option in options]
    fix = "free some memory"
    if savings:
        fix = f"{', '.join([*savings, 'or'])} more memory (other programs use some of it)"
    estimate = "; `panimbus inspect` estimates the memory" if "--tile" in options else ""
    return (
        "There is not enough memory. Finished parts are kept.\n  got:       "
        f"{describe_error(error)}\n  fix:       {fix}{estimate}"
    )


def about_fault(error: Exception) -> str:
    """The message about a bug of panimbus.

    The traceback is written to a file, or with PANIMBUS_DEBUG=1 to the terminal.
    """
    from panimbus.core.guard import describe_error

    lines = [
        "This is a bug in panimbus, not a problem of your input.",
        f"  got:       {describe_error(error)}",
    ]
    text = "".join(traceback.format_exception(error))
    if os.environ.get(DEBUG, "") not in ("", "0"):
        return "\n".join([*lines, text.rstrip()])
    fix = f"report it with the traceback: run the command again with {DEBUG}=1"
    with suppress(OSError):
        handle, name = tempfile.mkstemp(prefix="panimbus-fault-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{command_line()}\n{_versions()}\n\n{text}")
        fix = f"report it with the traceback in {name} ({DEBUG}=1 prints it)"
    return "\n".join([*lines, f"  fix:       {fix}"])


def _versions() -> str:
    import platform

    from panimbus import __version__

    return (
        f"panimbus {__version__}, Python {platform.python_version()}, {platform.platform()}, in"
        f" {Path.cwd()}"
    )


def silence(stream: Any) -> None:
    """Discard further output of a closed stream, so that the interpreter does not complain."""
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
