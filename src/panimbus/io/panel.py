"""Channel names: from a list or a file, made unique, chosen, and put into one order over the FOVs."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from panimbus.core.errors import ChannelError, InputError, ReadError, listed
from panimbus.core.fov import Fov, unique_names
from panimbus.io.raw import Planes, RawImage

_COLUMNS = ("name", "channel", "target", "marker")
_SHOWN = 10


@dataclass(frozen=True)
class Panel:
    """Names of an image's planes, in order, and which are kept (steinbock's column ``keep``)."""

    names: tuple[str, ...]
    keep: tuple[bool, ...]


def read_panel(source: str | Path | Sequence[str]) -> Panel:
    """Channel names from a list, a text file (one a line) or a table with a column name, channel, target or marker."""
    if not isinstance(source, (str, Path)):
        found = tuple(str(n) for n in source)
        return Panel(found, (True,) * len(found))
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ReadError(
            f"{path}: the list of channel names cannot be read.",
            expected="a text file (one name a line) or a CSV with a column name, channel, target or marker",
            got=str(error),
        ) from error
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise ReadError(f"{path}: the list of channel names is empty.")
    separator = "\t" if "\t" in lines[0] else ";" if lines[0].count(";") > lines[0].count(",") else ","
    rows = list(csv.reader(lines, delimiter=separator))
    header = [h.strip().lower() for h in rows[0]]
    column = next((header.index(c) for c in _COLUMNS if c in header), None)
    if column is None:
        if len(header) > 1:
            raise InputError(
                f"{path}: no column of the table holds the channel names.", expected=", ".join(_COLUMNS), available=rows[0]
            )
        return Panel(tuple(line.strip() for line in lines), (True,) * len(lines))
    keep = header.index("keep") if "keep" in header else None
    body = [row + [""] * (len(header) - len(row)) for row in rows[1:]]
    return Panel(
        tuple(row[column].strip() for row in body),
        tuple(keep is None or row[keep].strip().lower() not in ("0", "0.0", "false", "no") for row in body),
    )


def name_planes(raw: RawImage, panel: Panel | None, where: str) -> tuple[RawImage, tuple[str, ...], tuple[str, ...]]:
    """The image (without planes the panel does not keep), its unique channel names, and what to note."""
    notes: tuple[str, ...] = ()
    names, image = raw.names, raw.image
    if panel is not None and raw.fmt == "single-channel TIFFs":
        notes += ("channels are named by their files; channel_names is not used",)
    elif panel is not None:
        kept = [n for n, k in zip(panel.names, panel.keep, strict=True) if k]
        count = image.shape[0]
        if count not in (len(kept), len(panel.names)):
            raise InputError(
                f"{where}: the list of channel names does not fit the image.",
                expected=f"{count} names, one a plane",
                got=f"{len(panel.names)} names" + (f", {len(kept)} to keep" if len(kept) != len(panel.names) else ""),
                fix="give one name for each plane, in the planes' order",
            )
        if any(names) and tuple(names) != tuple(kept):
            notes += (f"the file's own channel names ({listed([n or '?' for n in names], 5)}) are replaced by the given ones",)
        if count == len(kept):
            names = tuple(kept)
        else:
            order = tuple(i for i, k in enumerate(panel.keep) if k)
            dropped = [n for n, k in zip(panel.names, panel.keep, strict=True) if not k]
            names, image = tuple(kept), Planes(image, order)
            notes += (f"the panel does not keep {listed(dropped, 10)}",)
    unique, renamed = unique_names(names)
    if not any(names) and len(names) > 1:
        renamed = (f"the file names no channels: called {unique[0]} to {unique[-1]} (name them with channel_names)",)
    return replace(raw, image=image, names=names), unique, notes + renamed


def select(fov: Fov, channels: Sequence[str]) -> Fov:
    """The FOV with only these channels, in this order; unknown names are an error that lists the known ones."""
    unknown = [c for c in channels if c not in fov.channels]
    if unknown:
        raise ChannelError(
            f"FOV {fov.fov_id!r} has no channel {listed([repr(c) for c in unknown])}.",
            available=fov.channels,
            fix="check the spelling (names are case-sensitive)",
        )
    twice = sorted({c for c in channels if list(channels).count(c) > 1})
    if twice:
        raise ChannelError("channels are asked for more than once.", got=listed(twice), fix="name each once")
    if tuple(channels) == fov.channels:
        return fov
    order = tuple(fov.index(c) for c in channels)
    planes = fov.source.get("planes", range(len(fov.channels)))
    source = {**fov.source, "planes": [planes[k] for k in order]}
    return fov.with_(image=Planes(fov.image, order), channels=tuple(channels), source=source)


def align(fovs: Sequence[Fov]) -> list[Fov]:
    """Put all FOVs into the first one's channel order; panels that differ are an error that says how."""
    first = fovs[0].channels
    wrong = [fov for fov in fovs if set(fov.channels) != set(first)]
    if wrong:
        shared = [c for c in first if all(c in fov.channels for fov in fovs)]
        lines = [
            f"{fov.fov_id}: lacks {listed([c for c in first if c not in fov.channels], _SHOWN)}; "
            f"has besides {listed([c for c in fov.channels if c not in first], _SHOWN)}"
            for fov in wrong[:_SHOWN]
        ]
        raise InputError(
            f"{len(wrong)} of {len(fovs)} FOVs have other channels than {fovs[0].fov_id!r}.",
            expected="the same channels in all FOVs, or a choice of channels",
            got="\n             ".join(lines),
            fix=f"ask for channels that all have: --channels {','.join(shared[:5])} (Python: channels={shared[:5]})"
            if shared
            else "score the panels one by one",
        )
    return [
        fov
        if fov.channels == first
        else select(fov, first).with_(notes=(*fov.notes, f"channels are put into the order of {fovs[0].fov_id}"))
        for fov in fovs
    ]
