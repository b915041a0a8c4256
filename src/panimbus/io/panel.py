"""Channel names: read from a list or a file, made unique, selected, aligned over FOVs."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from panimbus.core.errors import ChannelError, InputError, ReadError, format_list
from panimbus.core.fov import Fov, unique_names
from panimbus.core.naming import did_you_mean, join_names, split_names
from panimbus.core.reserved import legal_names
from panimbus.io.read_result import ChannelSubset, ReadResult
from panimbus.io.tables import read_table
from panimbus.io.text import one_line

_COLUMNS = (
    "name", "marker_name", "marker", "target", "target_name", "clean_target", "channel_name",
    "channel", "antibody", "antibody_name", "protein", "biomarker", "label", "names", "markers",
    "targets", "channels",
)  # fmt: skip
_NUMBERS = (
    "channel_number",
    "channel_index",
    "channel_no",
    "channel_id",
    "channel",
    "plane",
    "page",
)
_EXPECTED = (
    "a text file (one name a line) or a CSV with a column name, marker_name, marker, target or"
    " channel"
)
_SHOWN = 10
_LONGEST = 10_000  # characters of a name


@dataclass(frozen=True)
class PanelFile:
    """Names of planes in order, which of them are kept (steinbock's ``keep``), and notes."""

    names: tuple[str, ...]
    keep: tuple[bool, ...]
    notes: tuple[str, ...] = ()


def read_panel(source: str | Path | Sequence[str]) -> PanelFile:
    """Read channel names from a list, a text file (one per line, or one line) or a table.

    A table is what steinbock, MCMICRO or a spreadsheet writes: the first column that names things
    counts (`_COLUMNS`, in that order), not one of mere numbers; its rows are put into the order of
    the channel numbers, where there are any.
    """
    if not isinstance(source, (str, Path)):
        given = tuple(str(n) for n in source)
        return PanelFile(given, (True,) * len(given))
    path = Path(source)
    rows = read_table(path, expected=_EXPECTED, header=False).to_numpy().tolist()
    rows = [[one_line(cell) for cell in row] for row in rows]
    if any(len(cell) > _LONGEST for row in rows for cell in row):
        raise ReadError(f"{path}: this is no list of channel names.", expected=_EXPECTED)
    header = [re.sub(r"[\W_]+", "_", cell.casefold()).strip("_") for cell in rows[0]]
    if not set(header) & set(_COLUMNS):
        return _without_header(path, rows)
    body = rows[1:]
    if not body:
        raise ReadError(
            f"{path}: the list of channel names is empty.",
            expected=_EXPECTED,
            got=f"the header {format_list(rows[0], 8)}",
        )
    columns = [header.index(c) for c in _COLUMNS if c in header]
    named = [k for k in columns if not all(_is_number(row[k]) for row in body if row[k])]
    if not named:
        raise InputError(
            f"{path}: the table numbers the channels but does not name them.",
            expected="a column of names: name, marker_name, marker, target",
            available=rows[0],
        )
    body, notes = _in_order(path, header, body)
    if len(named) > 1:
        notes += (f"channel names are the column {rows[0][named[0]]!r} of {path.name}",)
    keep = header.index("keep") if "keep" in header else None
    kept = tuple(
        keep is None or row[keep].lower() not in ("0", "0.0", "false", "no") for row in body
    )
    if not any(kept):
        raise InputError(
            f"{path}: the panel keeps no channel.",
            expected="1 or true in the column keep of some rows",
        )
    return PanelFile(tuple(_first_name(row, named) for row in body), kept, notes)


def _without_header(path: Path, rows: list[list[str]]) -> PanelFile:
    """Names without a header: one per line, or all in one line."""
    if len(rows) == 1:
        rows = [[cell] for cell in rows[0] if cell]
    if max(len(row) for row in rows) > 1:
        raise InputError(
            f"{path}: no column of the table holds the channel names.",
            expected=", ".join(_COLUMNS[:8]),
            available=rows[0],
            fix="give the column of the names one of these headers",
        )
    return PanelFile(tuple(row[0] for row in rows), (True,) * len(rows))


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\d+([.,]\d*)?", text) is not None


def _first_name(row: list[str], columns: Sequence[int]) -> str:
    return next(
        (row[k] for k in columns if row[k] and not (k != columns[0] and _is_number(row[k]))), ""
    )


def _in_order(
    path: Path, header: Sequence[str], body: list[list[str]]
) -> tuple[list[list[str]], tuple[str, ...]]:
    """Sort rows by a column that numbers all channels from 0 or 1, if there is one."""
    for column in (header.index(c) for c in _NUMBERS if c in header):
        numbers = [
            int(row[column]) if re.fullmatch(r"[0-9]{1,6}", row[column]) else -1 for row in body
        ]
        if sorted(numbers) in (list(range(len(body))), list(range(1, len(body) + 1))):
            if numbers == sorted(numbers):
                break
            order = sorted(range(len(body)), key=numbers.__getitem__)
            return [body[k] for k in order], (
                f"the rows of {path.name} are put into the order of {header[column]}",
            )
    return body, ()


def name_planes(
    raw: ReadResult, panel: PanelFile | None, where: str
) -> tuple[ReadResult, tuple[str, ...], tuple[str, ...]]:
    """The image with only the kept planes, its unique channel names, and notes."""
    notes: tuple[str, ...] = panel.notes if panel is not None else ()
    names, image = raw.names, raw.image
    if panel is not None and raw.fmt == "single-channel TIFFs":
        notes = ("channels are named by their files; channel_names is not used",)
    elif panel is not None:
        kept = [n for n, k in zip(panel.names, panel.keep, strict=True) if k]
        count = image.shape[0]
        if count not in (len(kept), len(panel.names)):
            raise InputError(
                f"{where}: the list of channel names does not fit the image.",
                expected=f"{count} names, one a plane",
                got=f"{len(panel.names)} names"
                + (f", {len(kept)} to keep" if len(kept) != len(panel.names) else ""),
                fix="give one name for each plane, in the planes' order",
            )
        if any(names) and tuple(names) != tuple(kept):
            notes += (
                (
                    f"the file's own channel names ({format_list([n or '?' for n in names], 5)})"
                    " are replaced by the given ones"
                ),
            )
        if count == len(kept):
            names = tuple(kept)
        else:
            order = tuple(i for i, k in enumerate(panel.keep) if k)
            dropped = [n for n, k in zip(panel.names, panel.keep, strict=True) if not k]
            names, image = tuple(kept), ChannelSubset(image, order)
            notes += (f"the panel does not keep {format_list(dropped, 10)}",)
    plain, changed = legal_names(names)
    unique, renamed = unique_names(plain)
    renamed = (*changed, *renamed)
    if not any(names) and len(names) > 1:
        renamed = (
            (
                f"the file names no channels: called {unique[0]} to {unique[-1]} (--channel-names"
                " FILE; Python: channel_names=)"
            ),
        )
    return replace(raw, image=image, names=names), unique, notes + renamed


def select(fov: Fov, channels: Sequence[str]) -> Fov:
    """Select channels of a FOV, in this order; unknown names are an error."""
    channels = [c if c in fov.channels else unicodedata.normalize("NFC", c) for c in channels]
    unknown = [c for c in channels if c not in fov.channels]
    if unknown:
        raise ChannelError(
            f"FOV {fov.fov_id!r} has no channel"
            f" {format_list([repr(c) + did_you_mean(c, fov.channels) for c in unknown])}.",
            available=fov.channels,
            fix=_spelling(unknown, fov.channels),
        )
    twice = sorted({c for c in channels if list(channels).count(c) > 1})
    if twice:
        raise ChannelError(
            "channels are asked for more than once.", got=format_list(twice), fix="name each once"
        )
    if tuple(channels) == fov.channels:
        return fov
    order = tuple(fov.index(c) for c in channels)
    planes = fov.source.get("planes", range(len(fov.channels)))
    source = {**fov.source, "planes": [planes[k] for k in order]}
    types = {c: t for c, t in fov.channel_types.items() if c in channels}
    return fov.with_(
        image=ChannelSubset(fov.image, order),
        channels=tuple(channels),
        source=source,
        channel_types=types,
    )


def _spelling(unknown: Sequence[str], channels: Sequence[str]) -> str:
    """Suggested fix for unknown channels: names with commas need quotation marks."""
    meant = [
        c
        for c in channels
        if c != join_names([c]) and any(part in unknown for part in split_names(c))
    ]
    if meant:
        return (
            f"put names with a comma into quotation marks: --channels '{join_names(meant)}'"
            f" (Python: channels={meant})"
        )
    return "check the spelling (names are case-sensitive)"


def align(fovs: Sequence[Fov]) -> list[Fov]:
    """Put all FOVs into the channel order of the first; differing panels are an error."""
    first = fovs[0].channels
    wrong = [fov for fov in fovs if set(fov.channels) != set(first)]
    if wrong:
        shared = [c for c in first if all(c in fov.channels for fov in fovs)]
        lines = [
            f"{fov.fov_id}: lacks"
            f" {format_list([c for c in first if c not in fov.channels], _SHOWN)}; has besides"
            f" {format_list([c for c in fov.channels if c not in first], _SHOWN)}"
            for fov in wrong[:_SHOWN]
        ]
        raise InputError(
            f"{len(wrong)} of {len(fovs)} FOVs have other channels than {fovs[0].fov_id!r}.",
            expected="the same channels in all FOVs, or a choice of channels",
            got="\n             ".join(lines),
            fix=(
                f"ask for channels that all have: --channels {shlex.quote(join_names(shared))}"
                f" (Python: channels={shared})"
                if shared
                else "score the panels one by one"
            ),
        )
    return [
        (
            fov
            if fov.channels == first
            else select(fov, first).with_(
                notes=(*fov.notes, f"channels are put into the order of {fovs[0].fov_id}")
            )
        )
        for fov in fovs
    ]
