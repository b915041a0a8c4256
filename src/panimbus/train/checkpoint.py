"""The state of a run on disk.

Whole or not at all, tensors and plain values only, refused where it belongs to other settings.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError

from panimbus.core.errors import InputError, ReadError, format_list
from panimbus.io import atomic_path
from panimbus.io.documents import parse_json
from panimbus.train.config import TrainConfig

if TYPE_CHECKING:
    from panimbus.train.examples import StoreLike

LAST, BEST = "last.pt", "best.pt"


def identity(config: TrainConfig, store: StoreLike) -> dict[str, str]:
    """What a checkpoint must agree with.

    The settings, and a digest of what the store says about itself.
    """
    counted = store.examples[["dataset", "fov", "marker", "split", "known", "positive"]].to_csv(
        index=False
    )
    description = store.info.model_dump_json() + counted
    return {
        "config": json.dumps(config.identity(), sort_keys=True),
        "store": hashlib.sha256(description.encode()).hexdigest(),
    }


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state; the old file is replaced at the very end."""
    with atomic_path(path) as temporary:
        torch.save(dict(state), temporary)


def load(path: Path) -> dict[str, Any]:
    """Read a state on the CPU; pickled code is refused, never run."""
    try:
        with zipfile.ZipFile(path) as archive:  # torch itself does not compare the checksums
            if (member := archive.testzip()) is not None:
                raise _broken(path, f"other bytes than were written, in {member}")
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except zipfile.BadZipFile as error:
        raise _broken(
            path, f"{path.stat().st_size:,} bytes that are no archive of tensors"
        ) from error
    except pickle.UnpicklingError as error:  # torch's message proposes to run the code
        raise _broken(path, "something else than tensors and plain values") from error
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, OSError) as error:
        raise _broken(
            path, str(error).splitlines()[0] if str(error) else type(error).__name__
        ) from error
    state = state if isinstance(state, dict) else {}
    names = state.get("identity")
    if not isinstance(names, dict) or not all(
        isinstance(names.get(key), str) for key in ("config", "store")
    ):
        raise _broken(path, "values without the keys of a checkpoint")
    out: dict[str, Any] = state
    return out


def check_same(path: Path, saved: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Refuse a checkpoint of other settings or of another store, and say what differs."""
    if (before := _filled(saved["config"])) != wanted["config"]:
        old, new = _flat(parse_json(before, path)), _flat(json.loads(wanted["config"]))
        changed = [
            f"{k}: {old.get(k)!r} -> {new.get(k)!r}"
            for k in sorted({*old, *new})
            if old.get(k) != new.get(k)
        ]
        raise InputError(
            f"{path.parent} holds a run with other settings.",
            got=format_list(changed, 12),
            fix=(
                "use the same settings to go on (those under `machine` may change), or another"
                " --out"
            ),
        )
    if saved["store"] != wanted["store"]:
        raise InputError(
            f"{path.parent} holds a run that was trained on another store.",
            expected="the store that the run began with",
            fix="name that store, or another --out",
        )


def _filled(config: str) -> str:
    """Settings of a run, with the defaults of those that there were not yet when it began."""
    try:
        return json.dumps(
            TrainConfig.model_validate(parse_json(config, "the checkpoint")).identity(),
            sort_keys=True,
        )
    except (ValidationError, ReadError):
        return config


@contextmanager
def complete_state(path: Path) -> Iterator[None]:
    """Tell a state that lacks parts, or has them in other shapes, as a damaged file."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        message = f"{type(error).__name__}: {error}".splitlines()[0]
        raise _broken(path, f"parts are missing or of another shape ({message})") from error


def _broken(path: Path, why: str) -> ReadError:
    return ReadError(
        f"{path}: the checkpoint is damaged.",
        expected="a file that `panimbus train` wrote",
        got=why,
        fix=f"remove {path.parent} to begin this run anew, or put back a copy of the file",
    )


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in data.items():
        name = f"{prefix}{key}"
        out |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return out
