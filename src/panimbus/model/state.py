"""The tensors of a file of weights.

Read without running its code, and held against the net they are meant for. Needs torch.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panimbus.core.errors import ReadError, format_list
from panimbus.core.guard import guarded

if TYPE_CHECKING:
    from torch import Tensor, nn


def read_pt(path: Path) -> Mapping[str, Tensor]:
    """A state dict that `torch.save` wrote; pickled code in the file is refused, never run."""
    import pickle

    import torch

    if not path.is_file():
        raise ReadError(f"{path}: there is no such file.")
    with guarded(path, "not a torch file, or damaged."):
        _refuse_packed(path)
        try:
            state: Any = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise ReadError(
                f"{path}: refused, because it is not a plain state dict.",
                expected="tensors only, as torch.save(net.state_dict(), path) writes them",
                got=re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines()[0],
                fix="never load pickled models from others with weights_only=False",
            ) from error
    tensors = isinstance(state, Mapping) and all(
        isinstance(key, str) and torch.is_tensor(v) for key, v in state.items()
    )
    if not tensors:
        raise ReadError(
            f"{path}: not a state dict.",
            expected="a mapping from layer names to tensors",
            got=type(state).__name__,
        )
    out: Mapping[str, Tensor] = state
    return out


def _refuse_packed(path: Path) -> None:
    """Tensors are stored as they are.

    What is compressed was not written by it, and may be a thousand times as large.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ReadError(
                    f"{path}: refused, because its tensors are compressed.",
                    expected="a file that torch.save wrote",
                )


def check_state(make: Callable[[], nn.Module], state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights with NaN, and those that do not fit the net.

    The message names missing and unexpected ones, and those of another shape.
    """
    import torch

    with torch.device(
        "meta"
    ):  # a card may ask for any size: no memory is taken until it is known to be the file's
        net = make()
    wanted = net.state_dict()
    shape = [
        f"{k} {tuple(state[k].shape)} not {tuple(wanted[k].shape)}"
        for k in wanted
        if k in state and state[k].shape != wanted[k].shape
    ]
    problems = {
        "missing": [key for key in wanted if key not in state],
        "unexpected": [key for key in state if key not in wanted],
        "of another shape": shape,
    }
    got = "; ".join(f"{kind}: {format_list(names, 6)}" for kind, names in problems.items() if names)
    if got:
        raise ReadError(
            f"{path}: the weights do not fit the net.",
            expected=f"{len(wanted)} tensors of {type(net).__name__}",
            got=got,
        )
    if sick := [
        key
        for key, value in state.items()
        if value.is_floating_point() and not bool(value.isfinite().all())
    ]:
        raise ReadError(
            f"{path}: {len(sick)} of {len(state)} tensors hold NaN or infinite weights.",
            got=format_list(sick, 6),
            fix="copy or download the file again; a net whose training diverged cannot be used",
        )
