"""The command that repeats a finished run, from what its `run.json` says."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from panimbus.core.guard import guarded
from panimbus.infer.record import REQUEST, RUN
from panimbus.io.documents import read_json
from panimbus.model import DEFAULT_MODEL

_PLAIN = {"precision": "auto", "on_error": "raise", "min_area": None, "max_area": None}


def predict_command(folder: Path, thresholds: Mapping[str, float]) -> str | None:
    """The `panimbus predict` command that gives a result again.

    Parameters
    ----------
    folder
        Output of `panimbus predict`.
    thresholds
        Marker -> threshold of the result, which may have changed since it was scored.

    Returns
    -------
    str or None
        None where `run.json` does not say enough: arrays were scored, or an old version wrote it.
    """
    path = folder / RUN
    with guarded(path, "the file is not what `panimbus predict` wrote."):
        data = read_json(path, "run.json of `panimbus predict`")
        request = data.get(REQUEST)
        if not isinstance(request, dict) or not request.get("fovs"):
            return None
        fovs = list(request["fovs"].values())
        if not all("image" in fov for fov in fovs):
            return None
        words = ["panimbus", "predict", *dict.fromkeys(fov["image"] for fov in fovs)]
        for place in dict.fromkeys(fov["labels"] for fov in fovs if "labels" in fov):
            words += ["--labels", place]
        masks = [fov["excluded"] for fov in fovs if "excluded" in fov]
        if len(masks) > 1 or (masks and len(fovs) > 1):
            return None  # the option takes one path
        words += ["--exclude", *masks] if masks else []
        words += _settings(request, fovs)
        given = ",".join(f"{m}={t:g}" for m, t in thresholds.items() if t != 0.5)
        words += ["--thresholds", given] if given else []
        if request.get("normaliser") is not None:
            words += ["--normaliser", str(folder / "normaliser.json")]
        return shlex.join([*words, "--out", str(folder)])


def _settings(request: Mapping[str, Any], fovs: list[dict[str, Any]]) -> list[str]:
    """Options that differ from the defaults, and those that make names and sizes certain."""
    words = ["--channels", ",".join(request["channels"])]
    for key in ("mpp", "dark_level"):
        values = {fov.get(key) for fov in fovs}
        if len(values) == 1 and (value := values.pop()) is not None:
            words += [f"--{key.replace('_', '-')}", f"{value:g}"]
    types = {c: t for fov in fovs for c, t in (fov.get("types") or {}).items()}
    if types:
        words += ["--channel-types", ",".join(f"{c}={t}" for c, t in types.items())]
    if (model := request["model"]["name"]) != DEFAULT_MODEL:
        words += ["--model", model]
    words += ["--tta", request["tta"]]
    for key, usual in _PLAIN.items():
        if (value := request.get(key)) != usual and value is not None:
            words += [f"--{key.replace('_', '-')}", str(value)]
    return [*words, *(() if request.get("evidence", True) else ("--no-evidence",))]
