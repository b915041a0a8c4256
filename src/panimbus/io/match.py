"""Which label image belongs to which FOV: by name, exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from panimbus.core.errors import MatchError, format_list
from panimbus.io.names import MATCH_RULE, match_key, stem
from panimbus.io.place import Location

PAIRS_FIX = (
    "let `panimbus inspect IMAGES --labels LABELS --print-pairs > pairs.csv` propose the pairs,"
    " correct the file, and pass --pairs pairs.csv (Python: pairs=, or labels={fov_id: path})"
)


def match_by_name(
    fov_ids: Sequence[str], files: Sequence[Location], *, subset: bool
) -> dict[str, Location]:
    """Pair FOVs and label files whose names are equal once known suffixes are dropped.

    In another case if nothing else fits.

    Parameters
    ----------
    fov_ids
        Ids of the FOVs.
    files
        Label files.
    subset
        Whether labels of FOVs that were not asked for are allowed.

    Returns
    -------
    file of each FOV
        All FOVs have one; anything else is a `MatchError`.
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
    """Label files by key, a key that no FOV has replaced by that of the one FOV which differs from
    it in case alone.
    """
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
    """What to do, with the pairs that look meant: one name begins with the other, at a break."""
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
    """Check a mapping fov_id -> label file: each FOV must be in it, and it may name no other."""
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
