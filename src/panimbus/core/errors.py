"""Exceptions for bad input, with messages that give expected, got, available and the fix."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence

_SHOWN = 30


class PanimbusError(Exception):
    """Base class of all errors that the user can fix.

    The command line prints the message without a traceback and exits with code 2.
    """


class InputError(PanimbusError):
    """An input that cannot be used.

    Parameters
    ----------
    problem
        One sentence: which input, and what is wrong with it.
    expected, got
        The valid input, and the actual one.
    available
        The valid names.
    fix
        What to type or change.
    """

    def __init__(
        self,
        problem: str,
        *,
        expected: str | None = None,
        got: str | None = None,
        available: Iterable[str] | None = None,
        fix: str | None = None,
    ) -> None:
        lines = [problem]
        if expected is not None:
            lines.append(f"  expected:  {expected}")
        if got is not None:
            lines.append(f"  got:       {got}")
        if available is not None:
            lines.append(f"  available: {format_list(list(available))}")
        if fix is not None:
            lines.append(f"  fix:       {fix}")
        super().__init__("\n".join(lines))
        self.problem = problem


class ReadError(InputError):
    """A file that is missing, damaged or of an unknown format."""


class ServerError(InputError):
    """A server that cannot be reached or fails repeatedly; the data may be fine."""


class MatchError(InputError):
    """Images and label images (or tables) whose names do not match."""


class ChannelError(InputError):
    """A channel name that is unknown or ambiguous."""


class MissingExtraError(InputError):
    """An optional dependency that is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs an optional dependency that is not installed.",
            fix=f'pip install "panimbus[{extra}]"',
        )


def need_extra(feature: str, extra: str, module: str) -> None:
    """Import a module of an optional dependency, or raise a `MissingExtraError`."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(feature, extra) from error


def format_list(names: Sequence[str], limit: int = _SHOWN) -> str:
    """Join names with commas; above ``limit``, give only the number of the others."""
    if not names:
        return "(none)"
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown}, ... and {len(names) - limit} more"
