"""Values per channel or FOV as users write them: thresholds, channel types, controls, batches."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from panimbus.core.batches import check_batches
from panimbus.core.channel_types import CHANNEL_TYPES, check_channel_types
from panimbus.core.errors import ChannelError, InputError, ReadError, format_list
from panimbus.core.naming import did_you_mean, split_names
from panimbus.io.tables import Column, read_table

_PART = re.compile(r'(?:"(?:[^"]|"")*"|[^,])+')
_ALIASES = {
    "channel": ("marker", "name", "marker name", "channel name"),
    "marker": ("channel",),
    "type": ("channel type", "kind"),
    "fov": ("image", "sample", "roi", "filename"),
    "batch": ("slide", "patient", "day", "staining day", "run"),
}
_THRESHOLDS_EXPECTED = (
    "CD20=0.7,CD4=0.6, or a CSV file with the columns marker,threshold; each above 0 and below 1"
)
_TYPES_EXPECTED = (
    "DNA1=counterstain,Blank1=blank, or a CSV file with the columns channel,type; types:"
    f" {', '.join(CHANNEL_TYPES)}"
)

_BATCHES_EXPECTED = (
    "fov1=day1,fov2=day2; a CSV file with the columns fov,batch; or a regular expression with one"
    " group that finds the batch in each FOV's name, such as '^(day[0-9]+)_'"
)
_CONTROLS_EXPECTED = "CD3=IgG1,CD8=IgG2a, or a CSV file with the columns marker,control"


def _read_assignments(
    text_or_path: str, columns: tuple[str, str], *, kind: str, expected: str
) -> list[tuple[str, str]]:
    """Read pairs of a channel name and its value as text.

    Parameters
    ----------
    text_or_path
        ``A=1,"B,C"=2``, or the path of a table.
    columns
        Names of its two columns.
    kind, expected
        For messages: "thresholds", and how they are written.
    """
    path = _as_file(text_or_path, expected)
    if path is None:
        pairs = _inline(text_or_path, kind, expected)
    else:
        asked = [Column(name, aliases=_ALIASES.get(name, ())) for name in columns]
        frame = read_table(
            path, asked, expected=f"a table of {kind} with the columns {','.join(columns)}"
        )
        pairs = list(zip(frame[columns[0]], frame[columns[1]], strict=True))
    if not pairs:
        raise InputError(
            f"There are no {kind} in {str(text_or_path if path is None else path)!r}.",
            expected=expected,
        )
    return pairs


def _as_file(text: str, expected: str) -> Path | None:
    path = Path(text)
    try:
        if path.is_file():
            return path
    except (OSError, ValueError):  # too long for a name, or none
        return None
    if "=" not in text and path.suffix:
        raise ReadError(f"{path}: there is no such file.", expected=expected)
    return None


def _inline(text: str, kind: str, expected: str) -> list[tuple[str, str]]:
    words = [word.strip() for word in _PART.findall(text) if word.strip()]
    if bare := [word for word in words if not word.rpartition("=")[0].strip(' "')]:
        raise InputError(
            f"{kind.capitalize()} that cannot be read.", expected=expected, got=format_list(bare)
        )
    parts = [word.rpartition("=") for word in words]
    return [
        ((split_names(name) if name.startswith('"') else [name.strip()])[0], value.strip())
        for name, _, value in parts
    ]


def parse_thresholds(text_or_path: str, channels: Sequence[str]) -> dict[str, float]:
    """Read thresholds per marker.

    Parameters
    ----------
    text_or_path
        ``CD20=0.7,CD4=0.6``; or the path of a CSV file with the columns ``marker`` and
        ``threshold`` (more columns do no harm), or ``"HLA-DR,DP"=0.5``: names with commas stand in
        quotation marks.
    channels
        The markers of the panel.

    Returns
    -------
    dict
        Marker -> threshold, in the order of ``channels``.

    Raises
    ------
    ChannelError
        If a marker is not in the panel; it names the closest ones.
    InputError
        If a threshold is no number above 0 and below 1, or a marker has two. All problems are in
        one message.

    Examples
    --------
    >>> parse_thresholds("CD4=0.6, CD20=0.7", ["CD20", "CD3", "CD4"])
    {'CD20': 0.7, 'CD4': 0.6}
    """
    pairs = _read_assignments(
        text_or_path, ("marker", "threshold"), kind="thresholds", expected=_THRESHOLDS_EXPECTED
    )
    problems = [
        f"{name}: twice" for name, count in Counter(name for name, _ in pairs).items() if count > 1
    ]
    unknown = [name for name in dict.fromkeys(name for name, _ in pairs) if name not in channels]
    problems += [f"no marker {name!r}{did_you_mean(name, channels)}" for name in unknown]
    out: dict[str, float] = {}
    for name, value in pairs:
        number = _number(value)
        if number is None or not 0 < number < 1:
            problems.append(
                f"{name}: {value!r} is"
                f" {'not a number' if number is None else 'not above 0 and below 1'}"
            )
        else:
            out[name] = number
    if problems:
        message = f"Thresholds that cannot be used ({text_or_path})."
        if unknown:
            raise ChannelError(message, got="; ".join(problems), available=channels)
        raise InputError(message, expected=_THRESHOLDS_EXPECTED, got="; ".join(problems))
    return {name: out[name] for name in channels if name in out}


def _number(text: str) -> float | None:
    try:
        number = float(text.replace(",", "."))  # a threshold has no thousands
    except ValueError:
        return None
    return None if math.isnan(number) else number


def read_channel_types(
    given: str | Path | Mapping[str, str], channels: Collection[str]
) -> dict[str, str]:
    """Read the types of channels declared by the user.

    Parameters
    ----------
    given
        Channel -> type; or ``DNA1=counterstain,Blank1=blank``; or the path of a CSV file with the
        columns ``channel`` and ``type``.
    channels
        Those of the images.

    Raises
    ------
    ChannelError, InputError
        On channels that the images do not have, unknown types, and channels that are there twice;
        all in one message.
    """
    if isinstance(given, Mapping):
        return check_channel_types(given, channels)
    pairs = _read_assignments(
        str(given), ("channel", "type"), kind="channel types", expected=_TYPES_EXPECTED
    )
    if twice := [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]:
        raise InputError("Channels have two types.", got=", ".join(twice), expected=_TYPES_EXPECTED)
    return check_channel_types(dict(pairs), channels)


def read_controls(given: str | Path) -> dict[str, str]:
    """Read which control belongs to which marker.

    Parameters
    ----------
    given
        ``CD3=IgG1,CD8=IgG2a``, or the path of a CSV file with the columns ``marker`` and
        ``control``.

    Raises
    ------
    InputError
        If a marker has two controls.

    Examples
    --------
    >>> read_controls("CD3=IgG1, CD8=IgG1")
    {'CD3': 'IgG1', 'CD8': 'IgG1'}
    """
    pairs = _read_assignments(
        str(given), ("marker", "control"), kind="controls", expected=_CONTROLS_EXPECTED
    )
    if twice := [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]:
        raise InputError(
            "Markers have two controls.", got=", ".join(twice), expected=_CONTROLS_EXPECTED
        )
    return dict(pairs)


def read_batches(given: str | Path, fov_ids: Sequence[str]) -> dict[str, str]:
    """Read which batch each FOV is of.

    Parameters
    ----------
    given
        ``fov1=day1,fov2=day2``; the path of a CSV file with the columns ``fov`` and ``batch`` (or
        slide, patient, day); or a regular expression whose only group is the batch.
    fov_ids
        Names of the FOVs.

    Raises
    ------
    InputError
        If FOVs lack a batch or have two, or the expression has not one group or does not fit.

    Examples
    --------
    >>> read_batches("^(day[0-9])_", ["day1_a", "day2_a"])
    {'day1_a': 'day1', 'day2_a': 'day2'}
    """
    text = str(given)
    if "(" in text and not Path(text).exists():
        return check_batches(_matched(text, fov_ids), fov_ids)
    pairs = _read_assignments(text, ("fov", "batch"), kind="batches", expected=_BATCHES_EXPECTED)
    if twice := [f for f, count in Counter(fov for fov, _ in set(pairs)).items() if count > 1]:
        raise InputError(
            "FOVs are of two batches.", got=format_list(twice), expected=_BATCHES_EXPECTED
        )
    return check_batches(dict(pairs), fov_ids)


def _matched(expression: str, fov_ids: Sequence[str]) -> dict[str, str]:
    """The group of a regular expression in each name."""
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise InputError(
            "This is no regular expression.", got=f"{expression!r}: {error}",
            expected=_BATCHES_EXPECTED,
        ) from None  # fmt: skip
    if pattern.groups != 1:
        raise InputError(
            "The regular expression must have one group, the batch.",
            got=f"{expression!r}: {pattern.groups} groups",
            expected=_BATCHES_EXPECTED,
        )
    batches = {fov: match[1] for fov in fov_ids if (match := pattern.search(fov)) and match[1]}
    if lacking := [fov for fov in fov_ids if fov not in batches]:
        raise InputError(
            "The regular expression finds no batch in the names of some FOVs.",
            got=f"{expression!r}: {format_list(lacking)}",
            expected=_BATCHES_EXPECTED,
        )
    return batches
