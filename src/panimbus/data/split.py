"""Splits of FOVs into train, val and test: by patient, gold FOVs always test."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from panimbus.core.errors import InputError, format_list
from panimbus.io.documents import read_json

SPLITS = ("train", "val", "test")
_NAMES = {"train": "train", "validation": "val", "val": "val", "test": "test"}
SHARES = (0.8, 0.1, 0.1)


def assign_splits(
    fovs: Mapping[str, str],
    *,
    gold: Collection[str] = (),
    fixed: Mapping[str, str] | None = None,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
) -> dict[str, str]:
    """Assign every FOV to train, val or test.

    All FOVs of a group (a patient) go to one split: test if one is a gold FOV, or the split that
    ``fixed`` gives one of them. The other groups are ordered by a hash of the seed and their names;
    test and val take the first of them up to their shares, at least one group each while one
    remains for training.

    Parameters
    ----------
    fovs
        FOV -> group (its patient, or its own name).
    gold
        FOVs with annotations.
    fixed
        FOV -> split, decided by hand.
    shares
        Of train, val and test.
    seed

    Returns
    -------
    dict
        FOV -> split, in the order of ``fovs``.

    Examples
    --------
    >>> out = assign_splits({f"f{k}": f"f{k}" for k in range(20)}, gold=["f3"])
    >>> out["f3"], [sum(s == name for s in out.values()) for name in SPLITS]
    ('test', [16, 2, 2])
    """
    fixed = dict(fixed or {})
    _check(fovs, gold, fixed, shares)
    of_group: dict[str, str] = {}
    for fov, split in [*((f, "test") for f in gold), *fixed.items()]:
        group = fovs[fov]
        if of_group.setdefault(group, split) != split:
            raise InputError(
                f"FOVs of one group ({group!r}) are put in different splits.",
                expected="one split a patient, and test for a gold FOV",
                got=f"{of_group[group]} and {split} (FOV {fov!r})",
            )
    sizes: dict[str, int] = {}
    for group in fovs.values():
        sizes[group] = sizes.get(group, 0) + 1
    free = sorted((g for g in sizes if g not in of_group), key=lambda g: _order(g, seed))
    total = sum(shares)
    for k, split in ((2, "test"), (1, "val")):
        want = round(len(fovs) * shares[k] / total) or (1 if shares[k] > 0 else 0)
        have = sum(sizes[g] for g, s in of_group.items() if s == split)
        while have < want and len(free) > 1:
            group = free.pop(0)
            of_group[group] = split
            have += sizes[group]
    return {fov: of_group.get(group, "train") for fov, group in fovs.items()}


def read_splits(path: Path) -> dict[str, str]:
    """Read a JSON file of splits, as those of Nimbus: train, validation and test, each with FOVs.

    Returns
    -------
    dict
        FOV -> train, val or test.

    Raises
    ------
    ReadError, InputError
        If it is no such file, or a FOV is in several splits.
    """
    expected = 'splits (JSON): {"train": [FOVs], "validation": [FOVs], "test": [FOVs]}'
    data = read_json(path, expected, unique=True)
    if not isinstance(data, dict) or not all(
        isinstance(v, list) and all(isinstance(f, str) for f in v) for v in data.values()
    ):
        raise InputError(f"{path}: this is no file of splits.", expected=expected)
    if unknown := [k for k in data if k not in _NAMES]:
        raise InputError(
            f"{path}: a split has no such name.", got=format_list(unknown), available=list(_NAMES)
        )
    out: dict[str, str] = {}
    for name, fovs in data.items():
        for fov in fovs:
            if out.setdefault(fov, _NAMES[name]) != _NAMES[name]:
                raise InputError(
                    f"{path}: a FOV is in several splits.",
                    got=f"{fov} in {out[fov]} and {_NAMES[name]}",
                )
    return out


def _order(name: str, seed: int) -> str:
    return hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=16).hexdigest()


def _check(
    fovs: Mapping[str, str],
    gold: Collection[str],
    fixed: Mapping[str, str],
    shares: Sequence[float],
) -> None:
    if unknown := sorted({*gold, *fixed} - set(fovs)):
        raise InputError(
            "The splits name FOVs that the dataset does not have.",
            got=format_list(unknown),
            available=list(fovs),
        )
    if wrong := sorted({s for s in fixed.values() if s not in SPLITS}):
        raise InputError("A split has no such name.", got=format_list(wrong), available=SPLITS)
    if len(shares) != 3 or min(shares) < 0 or not sum(shares) > 0:
        raise InputError(
            "The shares of the splits are wrong.",
            expected="three shares of train, val, test",
            got=str(tuple(shares)),
        )
    if lost := sorted(f for f in gold if fixed.get(f, "test") != "test"):
        raise InputError(
            "Gold FOVs are always test.", got=format_list(lost), fix="remove them from [splits]"
        )
