"""How a run ends: signals, faults, and streams that take no text.

One message each, and an exit code.
"""

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

DEBUG = "PANIMBUS_DEBUG"
_THRIFTY = (
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
    """SIGTERM or SIGHUP, which end a run as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def code(self) -> int:
        """The exit code: 128 and the signal's number, as shells have it."""
        return 128 + self.number


def catch_signals() -> None:
    """End this process, not those it starts, by `Stopped` on SIGTERM and SIGHUP (unless it is
    ignored, as under nohup).
    """
    process = os.getpid()

    def stop(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != process:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        signal.signal(number, signal.SIG_IGN)  # a second one must not disturb the tidying up
        raise Stopped(number)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        with suppress(ValueError, OSError):  # not the main thread
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, stop)


def make_streams_lenient() -> None:
    """Write what an ASCII or Windows terminal lacks in plain letters (µm as um), instead of failing
    on it.
    """
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
    """One message about what the system refused."""
    where = error.filename or "what was to be written"
    if error.errno == errno.ENOSPC:
        return (
            f"The disk is full: {where} could not be written.\n  fix:       free some space and run"
            " the same command again; what was finished is kept"
        )
    return f"{where}: {error.strerror or error}"


def about_memory(error: Exception, options: Iterable[str] = ()) -> str:
    """One message about memory that does not suffice.

    Of a verb's options those that take less of it are named.
    """
    from panimbus.core.guard import describe_error

    ways = [way for option, way in _THRIFTY if option in options]
    fix = (
        f"{', '.join([*ways, 'or'])} more memory (other programs take some of it)"
        if ways
        else "free some memory"
    )
    estimate = "; `panimbus inspect` says how much is expected" if "--tile" in options else ""
    return (
        f"There is not enough memory. What was finished is kept.\n  got:       {describe_error(error)}\n "
        f" fix:       {fix}{estimate}"
    )


def about_fault(error: Exception) -> str:
    """One message about an exception that is the program's own.

    The traceback goes to a file, or with PANIMBUS_DEBUG=1 here.
    """
    from panimbus.core.guard import describe_error

    lines = [
        "This is a fault of panimbus, not of your input.",
        f"  got:       {describe_error(error)}",
    ]
    text = "".join(traceback.format_exception(error))
    if os.environ.get(DEBUG, "") not in ("", "0"):
        return "\n".join([*lines, text.rstrip()])
    fix = f"report it with the traceback: run the command again with {DEBUG}=1"
    with suppress(OSError):
        handle, name = tempfile.mkstemp(prefix="panimbus-fault-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{_command()}\n{_versions()}\n\n{text}")
        fix = f"report it with the traceback in {name} ({DEBUG}=1 shows it here)"
    return "\n".join([*lines, f"  fix:       {fix}"])


def _command() -> str:
    import shlex

    return shlex.join(["panimbus", *sys.argv[1:]])


def _versions() -> str:
    import platform

    from panimbus import __version__

    return (
        f"panimbus {__version__}, Python {platform.python_version()}, {platform.platform()}, in"
        f" {Path.cwd()}"
    )


def silence(stream: Any) -> None:
    """Let a stream that nobody reads take what is still to come, so that the interpreter does not
    complain at its end.
    """
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
