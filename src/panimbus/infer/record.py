"""Whether a folder's results belong to the same run: `run.json` compared with the request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from panimbus.core.errors import InputError, ReadError, format_list
from panimbus.core.fov import Fov
from panimbus.core.scale import ChannelScale
from panimbus.infer.settings import PredictSettings
from panimbus.io.documents import read_json
from panimbus.io.location import Url, parse_location
from panimbus.model.weights import ModelFiles

RUN, REQUEST = "run.json", "request"
RECALIBRATED = "recalibrated"  # key of the request: the markers
_PLACES = {"image": "image", "labels": "label image"}
_EXCLUDED = "excluded"


def asked_for(
    fovs: Sequence[Fov],
    model: ModelFiles,
    settings: PredictSettings,
    channels: Sequence[str] | None = None,
    scale: ChannelScale | None = None,
    batches: Mapping[str, str] | None = None,
    *,
    normalise_by_batch: bool = False,
) -> dict[str, Any]:
    """Everything that the tables depend on except the bytes of the files, as JSON.

    Parameters as those of `predict`.
    """
    given = None if scale is None else json.dumps(scale.to_dict(), sort_keys=True)
    return {
        "fovs": {f.fov_id: _origin(f) for f in fovs},
        "channels": list(fovs[0].channels if channels is None else channels),
        "model": {"name": model.card.name, "sha256": model.sha256},
        "tta": str(settings.tta_for(model.card)),
        "precision": str(settings.precision),
        "on_error": str(settings.on_error),
        "evidence": settings.evidence,
        "thresholds": dict(settings.thresholds),
        "min_area": settings.min_area,
        "max_area": settings.max_area,
        "batches": None if batches is None else dict(batches),
        "normalise_by_batch": normalise_by_batch,
        "normaliser": (
            None if given is None else hashlib.blake2b(given.encode(), digest_size=8).hexdigest()
        ),
    }


def check_same_run(out: Path, asked: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Refuse to replace the tables of another run.

    Parameters
    ----------
    out
        Folder. Without `run.json` in it no run has ended there, and nothing is replaced.
    asked
        From `asked_for`.
    overwrite
        Whether to replace them anyway.

    Raises
    ------
    InputError
        With the differences.
    """
    before = _earlier(out / RUN)
    if overwrite or before is None:
        return
    differ = _differences(before, json.loads(json.dumps(asked)))
    if "table" in before and "fovs" not in before:
        differ = ["the results of another command (`panimbus phenotype run`) are there"]
    if differ:
        raise InputError(
            f"{out}: the tables of another run are there, and this run would replace them.",
            expected="the FOVs, channels, model and settings of that run, or another folder",
            got="\n             ".join(differ),
            fix=(
                "pass another --out, or --overwrite to replace them (unchanged parts are not"
                " computed again)"
            ),
        )


def check_same_request(
    path: Path,
    asked: Mapping[str, Any],
    results: str,
    *,
    overwrite: bool = False,
    may_add: Sequence[str] = (),
) -> None:
    """Refuse to replace the results of another run of ``phenotype run`` or ``evaluate``.

    Parameters
    ----------
    path
        File of the results with the earlier request, under the key `REQUEST`.
    asked
        The request: option -> value.
    what
        Name of the results, for the message.
    overwrite
        Whether to replace them anyway.
    may_add
        Options that may be added to a run without them.

    Raises
    ------
    InputError
        With the differences.
    """
    try:
        before = read_json(path)[REQUEST]
    except (ReadError, LookupError, TypeError):
        return
    if overwrite or not isinstance(before, dict):
        return
    now = json.loads(json.dumps(dict(asked)))
    keys = [k for k in now if before.get(k) != now[k] and not (k in may_add and not before.get(k))]
    differ = [
        f"{k.replace('_', '-')}: {_short(before.get(k))} there, {_short(now[k])} here" for k in keys
    ]
    if "fovs" in before:
        differ = ["the tables of `panimbus predict` are there"]
    if differ:
        raise InputError(
            f"{path.parent}: {results} of another run are there, and this run would replace them.",
            expected="the options of that run, or another folder",
            got="\n             ".join(differ),
            fix="pass another --out, or --overwrite to replace them",
        )


def comparable_path(path: str | Path | None) -> str | None:
    """A path as `check_same_request` compares it, from whatever folder the command is run."""
    return None if path is None else _absolute(str(path))


def _earlier(path: Path) -> dict[str, Any] | None:
    """The request of an earlier run, as far as it is recorded."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(data.get(REQUEST), dict):
            return dict(data[REQUEST])
        of = data["inputs"]  # a run of an older version, or of the demonstration
        return {
            "fovs": {
                fov: {k: _absolute(about[k]) for k in _PLACES if k in about}
                for fov, about in of.items()
            }
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One sentence per kind of difference."""
    old, new = _mapping(before.get("fovs")), _mapping(now["fovs"])
    more, fewer = [f for f in new if f not in old], [f for f in old if f not in new]
    out = []
    if old and (more or fewer):
        parts = [f"{len(more)} more here ({format_list(more, 5)})"] * bool(more) + [
            f"{len(fewer)} missing ({format_list(fewer, 5)})"
        ] * bool(fewer)
        out.append(
            f"FOVs: {', '.join(parts)}; the normaliser is that of all FOVs together, so that all"
            " scores change"
        )
    for key, name in (
        *_PLACES.items(),
        ("part", "part of a file"),
        ("mpp", "µm per pixel"),
        ("dark_level", "dark level"),
        ("types", "types of channels"),
        (_EXCLUDED, "mask of excluded regions"),
    ):
        moved = [f for f in new if key in _mapping(old.get(f)) and old[f][key] != new[f].get(key)]
        if key == _EXCLUDED:  # a FOV without a mask does not name one
            moved = [f for f in new if f in old and _mapping(old[f]).get(key) != new[f].get(key)]
        if moved:
            first = f"{old[moved[0]].get(key)} there, {new[moved[0]].get(key)} here"
            out.append(f"{name} of {format_list(moved, 3)}: {first}")
    old_names, new_names = before.get("channels"), now["channels"]
    if old_names is not None and old_names != new_names:
        out.append(f"channels: {_channels(list(old_names), new_names)}")
    if markers := before.get(RECALIBRATED):
        out.append(
            f"recalibrated markers: {format_list(list(markers), 8)}; this run would write the"
            " model's own scores"
        )
    keys = [k for k in now if k in before and k not in ("fovs", "channels") and before[k] != now[k]]
    return out + [
        f"{k.replace('_', '-')}: {_short(before[k])} there, {_short(now[k])} here" for k in keys
    ]


def _channels(old_names: list[str], new_names: list[str]) -> str:
    more, fewer = (
        [c for c in new_names if c not in old_names],
        [c for c in old_names if c not in new_names],
    )
    parts = [f"{format_list(more, 8)} only here"] * bool(more) + [
        f"{format_list(fewer, 8)} only there"
    ] * bool(fewer)
    return "; ".join(parts) or "in another order"


def _origin(fov: Fov) -> dict[str, Any]:
    keys = [key for key in (*_PLACES, _EXCLUDED) if key in fov.source]
    places = {key: _absolute(str(fov.source[key])) for key in keys}
    part = {"part": str(fov.source["part"])} if "part" in fov.source else {}
    return {
        **places,
        **part,
        "mpp": fov.mpp,
        "dark_level": fov.source.get("dark_level"),
        "types": dict(fov.channel_types),
    }


def _absolute(text: str) -> str:
    where = parse_location(str(text))
    return str(where) if isinstance(where, Url) else str(where.absolute())


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _short(value: Any) -> str:
    if isinstance(value, Mapping) and "name" in value:
        return f"{value['name']} ({str(value.get('sha256'))[:8]})"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:97]}..."
