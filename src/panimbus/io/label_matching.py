"""Pairing of FOVs and label images: by name, or by a CSV file of pairs."""

from __future__ import annotations

import csv
import difflib
import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from panimbus.core.errors import InputError, MatchError, ReadError, format_list
from panimbus.io.location import Location, Url, clean_path, parse_location
from panimbus.io.names import MATCH_RULE, match_key, stem
from panimbus.io.tables import Column, read_table

PAIRS_FIX = (
    "let `panimbus inspect IMAGES --labels LABELS --print-pairs > pairs.csv` propose the pairs,"
    " correct the file, and pass --pairs pairs.csv (Python: pairs=, or labels={fov_id: path})"
)
IMAGE, LABELS, NOTE = COLUMNS = ("image", "labels", "note")
_PAIRS_EXPECTED = (
    "a CSV file with the columns image,labels: a FOV (its name, or its file) and its label image"
)
_SURE, _LEAST = 0.9, 0.2


def match_by_name(
    fov_ids: Sequence[str], files: Sequence[Location], *, subset: bool
) -> dict[str, Location]:
    """Pair FOVs and label files whose names are equal once known suffixes are dropped.

    Case is ignored where nothing else fits.

    Parameters
    ----------
    fov_ids
        Ids of the FOVs.
    files
        Label files.
    subset
        Whether label files of other FOVs are allowed.

    Returns
    -------
    file of each FOV
        One for every FOV; anything else is a `MatchError`.
    """
    fovs: dict[str, list[str]] = {}
    for fov in fov_ids:
        fovs.setdefault(match_key(fov), []).append(fov)
    labels: dict[str, list[Location]] = {}
    for file in files:
        labels.setdefault(match_key(stem(file)), []).append(file)
    labels = _ignoring_case(fovs, labels)
    for key, paths in labels.items():
        if key in fovs and len(paths) > 1:
            raise MatchError(
                f"FOV {fovs[key][0]!r} has {len(paths)} label images.",
                got=format_list([p.name for p in paths]),
                fix=f"leave one in the folder, or {PAIRS_FIX}",
            )
        if len(fovs.get(key, ())) > 1:
            raise MatchError(
                f"{len(fovs[key])} FOVs have the same label image, {paths[0].name}.",
                got=format_list(fovs[key]),
                fix=PAIRS_FIX,
            )
    lonely = [fov for key, group in fovs.items() if key not in labels for fov in group]
    spare = [p.name for key, paths in labels.items() if key not in fovs for p in paths]
    if lonely or (spare and not subset):
        raise MatchError(
            f"images and label images do not pair up: {len(lonely)} of {len(fov_ids)} FOVs have no"
            f" label image, {len(spare)} of {len(files)} label images have no FOV.",
            expected=f"a label image for each FOV and a FOV for each label image; {MATCH_RULE}",
            got=f"FOVs without: {format_list(lonely)}; label images without: {format_list(spare)}",
            fix=_suggest(lonely, spare, len(fov_ids)),
        )
    return {fov: labels[key][0] for key, group in fovs.items() for fov in group}


def _ignoring_case(
    fovs: Mapping[str, object], labels: Mapping[str, list[Location]]
) -> dict[str, list[Location]]:
    """Label files by key; keys without a FOV get that of the only FOV equal but for case."""
    lonely: dict[str, list[str]] = {}
    for key in fovs:
        if key not in labels:
            lonely.setdefault(key.casefold(), []).append(key)
    spare = [key.casefold() for key in labels if key not in fovs]
    out: dict[str, list[Location]] = {}
    for key, paths in labels.items():
        folded = key.casefold()
        same = lonely.get(folded, []) if key not in fovs else []
        out[same[0] if len(same) == 1 and spare.count(folded) == 1 else key] = paths
    return out


def _suggest(lonely: Sequence[str], spare: Sequence[str], total: int) -> str:
    """Suggested fix, with likely pairs: one name begins with the other."""
    if not lonely:
        return (
            "pass the files to score instead of their folder (Python: as a list) if label images of"
            " others may stay"
        )
    if not spare and len(lonely) < total:
        return "pass only the images that have labels, or add the missing label images"
    pairs = [
        (fov, name)
        for fov in lonely
        for name in spare
        if _one_begins_other(fov, match_key(stem(name)))
    ]
    shown = ", ".join(f"{fov}: {name}" for fov, name in pairs[:3])
    return f"{PAIRS_FIX}{f'; these look like pairs: {shown}' if pairs else ''}"


def _one_begins_other(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return (
        len(short) > 0
        and long.startswith(short)
        and not long[len(short) : len(short) + 1].isalnum()
    )


def match_mapping(fov_ids: Sequence[str], labels: Mapping[str, Location]) -> dict[str, Location]:
    """Check that a mapping fov_id -> label file names each FOV and no others."""
    lonely = [fov for fov in fov_ids if fov not in labels]
    spare = [name for name in labels if name not in fov_ids]
    if lonely or spare:
        raise MatchError(
            "the mapping of labels does not name the FOVs.",
            expected="one label image a FOV id",
            got=f"FOVs without: {format_list(lonely)}; not a FOV: {format_list(spare)}",
            available=fov_ids,
        )
    return {fov: labels[fov] for fov in fov_ids}


@dataclass(frozen=True)
class PairRow:
    """A line of a file of pairs.

    Parameters
    ----------
    line
        Its number, for messages.
    image
        Name of a FOV, or name or path of its image.
    labels
        Where its label image is.
    """

    line: int
    image: str
    labels: Location


def read_pairs(path: str | Path) -> list[PairRow]:
    """Read a file of pairs.

    Parameters
    ----------
    path
        Table with the columns ``image`` and ``labels``; others are ignored. Label images are
        relative to the file's folder.

    Raises
    ------
    ReadError
        If it cannot be read as such a table; the message names the lines.
    """
    file = Path(clean_path(str(path)))
    try:
        table = read_table(file, [Column(IMAGE), Column(LABELS)], expected=_PAIRS_EXPECTED)
    except InputError as error:
        fix = "panimbus inspect IMAGES --labels LABELS --print-pairs > pairs.csv"
        raise type(error)(str(error), fix=fix) from None
    out, bare = [], []
    for number, image, labels in table[[IMAGE, LABELS]].itertuples():
        if not image or not labels:
            bare.append(f"line {number}")
            continue
        there = parse_location(labels)
        out.append(PairRow(number, image, there if isinstance(there, Url) else file.parent / there))
    if bare:
        raise ReadError(
            f"{file}: {len(bare)} lines name no image or no label image.",
            expected=_PAIRS_EXPECTED,
            got=format_list(bare, 10),
            fix="fill them in, or take them out",
        )
    return out


def match_by_pairs(
    rows: Sequence[PairRow], fovs: Mapping[str, str], where: object
) -> dict[str, Location]:
    """Label image of each FOV, from a file of pairs.

    Parameters
    ----------
    rows
        From `read_pairs`. Lines about other images are ignored.
    fovs
        FOV id -> path or address of its image; empty where there is none.
    where
        The file, for messages.

    Raises
    ------
    MatchError
        If a FOV has no line, or lines that differ; or a line fits several FOVs.
    """
    names = {fov: _names_of(fov, image) for fov, image in fovs.items()}
    out: dict[str, Location] = {}
    problems = []
    for row in rows:
        asked = _normal_path(row.image)
        fits = [fov for fov in fovs if fov == row.image] or [
            fov for fov, of in names.items() if asked in of
        ]
        if len(fits) > 1:
            problems.append(
                f"line {row.line}: {row.image!r} is {len(fits)} FOVs"
                f" ({format_list(fits, 5)}): name one"
            )
        elif fits and out.get(fits[0], row.labels) != row.labels:
            problems.append(
                f"line {row.line}: FOV {fits[0]!r} has another label image in a line above"
            )
        elif fits:
            out[fits[0]] = row.labels
    problems += (
        [f"FOV {fov!r} has no line" for fov in fovs if fov not in out] if not problems else []
    )
    if problems:
        raise MatchError(
            f"{where}: it does not give each FOV one label image.",
            expected="a line for each FOV, with its name or its file in the column image",
            got=format_list(problems, 10),
            available=list(fovs),
        )
    return {fov: out[fov] for fov in fovs}


def shared_label_notes(
    paths: Mapping[str, Location], fovs: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Notes for FOVs of different images that share a label image.

    Parameters
    ----------
    paths
        FOV id -> its label image.
    fovs
        As in `match_by_pairs`.
    """
    files = {
        fov: str(path) if isinstance(path, Url) else os.path.realpath(path)
        for fov, path in paths.items()
    }
    users: dict[str, list[str]] = {}
    for fov, file in files.items():
        users.setdefault(file, []).append(fov)
    out: dict[str, tuple[str, ...]] = dict.fromkeys(paths, ())
    for fov, file in files.items():
        if others := [other for other in users[file] if other != fov and fovs[other] != fovs[fov]]:
            out[fov] = (
                (
                    f"its label image, {paths[fov].name}, is also that of FOV"
                    f" {format_list(others, 3)}: is the pair right?"
                ),
            )
    return out


def draft_pairs_csv(fovs: Mapping[str, str], files: Sequence[Location]) -> str:
    """Draft a CSV file of pairs by the likeness of names, to be corrected by hand.

    Parameters
    ----------
    fovs
        As in `match_by_pairs`.
    files
        Label images.

    Returns
    -------
    str
        CSV with the columns image, labels, note. The note marks uncertain and missing
        pairs.
    """
    names, free = list(fovs), list(dict.fromkeys(files))
    alike = [[_similarity(fov, file) for file in free] for fov in names]
    best = sorted(
        ((score, -i, -k) for i, row in enumerate(alike) for k, score in enumerate(row)),
        reverse=True,
    )
    rows = dict.fromkeys(names, ("", "no label image left: fill it in, or leave the image away"))
    taken: set[int] = set()
    for score, i, k in ((score, -i, -k) for score, i, k in best):
        if rows[names[i]][0] or k in taken or score < _LEAST:
            continue
        taken.add(k)
        rivals = sum(s > score - 0.02 for s in (*alike[i], *(row[k] for row in alike))) > 2
        note = f"unsure: the names are {100 * score:.0f} % alike" if score < _SURE or rivals else ""
        rows[names[i]] = (_path_text(free[k]), note)
    table = [COLUMNS, *((fov, *row) for fov, row in rows.items())]
    table += [
        ("", _path_text(file), "no FOV left: take the line out, or name its FOV")
        for k, file in enumerate(free)
        if k not in taken
    ]
    return "".join(map(_csv_line, table))


def _csv_line(fields: Sequence[str]) -> str:
    """A line of CSV; with this terminator, the writer also quotes carriage returns in names."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow(fields)
    return out.getvalue().removesuffix("\r\n") + "\n"


def _path_text(file: Location) -> str:
    return str(file) if isinstance(file, Url) else str(file.absolute())


def _names_of(fov: str, image: str) -> set[str]:
    if not image:
        return {fov}
    where = parse_location(image)
    return {fov, where.name, _normal_path(image)} | ({stem(where)} if stem(where) else set())


def _normal_path(text: str) -> str:
    """Absolute path of a path with folders; plain names are unchanged."""
    where = parse_location(text)
    if isinstance(where, Url) or (len(where.parts) < 2 and not where.is_absolute()):
        return str(where)
    return str(where.absolute())


def _similarity(fov: str, file: Location) -> float:
    """Likeness of two names, 0 to 1; numbers are compared as a whole (fov1 is not near fov10)."""
    one, two = match_key(fov).lower(), match_key(stem(file)).lower()
    if one == two:
        return 1.0
    ones, twos = (re.findall(r"\d+|[a-z]+", name) for name in (one, two))
    ones, twos = ([w.lstrip("0") if w.isdigit() else w for w in words] for words in (ones, twos))
    if ones == twos and ones:
        return 0.95
    return 0.9 * difflib.SequenceMatcher(None, ones, twos, autojunk=False).ratio()
