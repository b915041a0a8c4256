"""Exceptions for bad input: one clear message that says expected, got, available, and the fix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_SHOWN = 30


class PanimbusError(Exception):
    """Base of every error a user can mend.

    The command line prints it without a traceback and exits with 2.
    """


class InputError(PanimbusError):
    """An input that cannot be used.

    Parameters
    ----------
    what
        One sentence: which input, and what is wrong with it.
    expected, got
        What would be right, and the evidence found instead.
    available
        The names that would have worked.
    fix
        What to type or change.
    """

    def __init__(
        self,
        what: str,
        *,
        expected: str | None = None,
        got: str | None = None,
        available: Iterable[str] | None = None,
        fix: str | None = None,
    ) -> None:
        lines = [what]
        if expected is not None:
            lines.append(f"  expected:  {expected}")
        if got is not None:
            lines.append(f"  got:       {got}")
        if available is not None:
            lines.append(f"  available: {format_list(list(available))}")
        if fix is not None:
            lines.append(f"  fix:       {fix}")
        super().__init__("\n".join(lines))
        self.what = what


class ReadError(InputError):
    """A file that is missing, truncated, or of a kind that is not recognised."""


class ServerError(InputError):
    """A server that cannot be reached or fails again and again.

    Unlike a `ReadError` it says nothing about the data.
    """


class MatchError(InputError):
    """Images and label images (or tables) that do not pair up by name."""


class ChannelError(InputError):
    """A channel name that is not in the panel, or is ambiguous."""


class MissingExtraError(InputError):
    """A feature that needs an optional dependency."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs an optional dependency that is not installed.",
            fix=f'pip install "panimbus[{extra}]"',
        )


def format_list(names: Sequence[str], limit: int = _SHOWN) -> str:
    """Join ``names`` with commas; after ``limit`` of them say how many more there are."""
    if not names:
        return "(none)"
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown}, ... and {len(names) - limit} more"
