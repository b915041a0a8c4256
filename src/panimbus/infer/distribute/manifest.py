"""What several processes that share one output folder were told.

It must be the same, and `merge` reads it back.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from panimbus.core.errors import InputError, ReadError
from panimbus.core.fov import Fov
from panimbus.core.scale import ChannelScale
from panimbus.infer.settings import PredictSettings
from panimbus.io import open_fovs
from panimbus.io.documents import format_problems, read_json, validate
from panimbus.io.leftovers import release_temporary, temporary_name
from panimbus.io.place import parse_location
from panimbus.io.write import atomic_path
from panimbus.model.weights import ModelFiles, resolve_model

REQUEST, BACKEND = "request.json", "backend.json"
_FORMAT = 1


@dataclass(frozen=True)
class Request:
    """All that determines the result of `panimbus predict`, as names and numbers.

    Parameters
    ----------
    images, labels
        Absolute paths, or addresses; no labels: those inside the images.
    channels
        Names to score, None for all.
    pairs, channel_names, channel_types, mpp, dark_level
        As `open_fovs` takes them.
    model
        Name or absolute path, None for the default model.
    scale
        A given normaliser (`ChannelScale.to_dict`), None to fit one.
    tta, tile, precision, device, on_error, evidence, thresholds, min_area, max_area,
    allow_odd_labels
        As in `PredictSettings`.
    """

    images: tuple[str, ...]
    labels: tuple[str, ...] = ()
    pairs: str | None = None
    channels: tuple[str, ...] | None = None
    channel_names: str | None = None
    channel_types: str | None = None
    mpp: float | None = None
    dark_level: float | None = None
    model: str | None = None
    scale: dict[str, Any] | None = None
    tta: str | None = None
    tile: int | None = None
    precision: str = "auto"
    device: str = "auto"
    on_error: str = "raise"
    evidence: bool = True
    thresholds: Mapping[str, float] = field(default_factory=dict)
    min_area: float | None = None
    max_area: float | None = None
    allow_odd_labels: bool = False

    def settings(self, threads: int = 0) -> PredictSettings:
        """How to run."""
        return PredictSettings(
            tta=self.tta,
            tile=self.tile,
            precision=self.precision,
            device=self.device,
            threads=threads,
            on_error=self.on_error,
            evidence=self.evidence,
            thresholds=self.thresholds,
            min_area=self.min_area,
            max_area=self.max_area,
            allow_odd_labels=self.allow_odd_labels,
        )

    def normaliser(self) -> ChannelScale | None:
        """The given normaliser."""
        return None if self.scale is None else ChannelScale.from_dict(self.scale)

    def open(self) -> list[Fov]:
        """The FOVs; their metadata is read, no pixels."""
        return open_fovs(
            list(self.images) if len(self.images) > 1 else self.images[0],
            (
                None
                if not self.labels
                else list(self.labels)
                if len(self.labels) > 1
                else self.labels[0]
            ),
            pairs=self.pairs,
            mpp=self.mpp,
            dark_level=self.dark_level,
            channels=self.channels,
            channel_names=self.channel_names,
            channel_types=self.channel_types,
            counterstains=True,
        )

    def files(self) -> ModelFiles:
        """The model."""
        return resolve_model(self.model)


def absolute(given: str | Path) -> str:
    """A path that means the same in every working directory; an address as it is."""
    where = parse_location(given)
    if isinstance(where, Path):
        return str(where.absolute())
    if where.full != str(where):
        raise InputError(
            f"{where}: an address with a password or a token cannot be shared by several processes:"
            " it would be written down.",
            fix="give the credentials as the server's client takes them from the environment",
        )
    return where.full


def claim_folder(
    out: Path, request: Request, model: ModelFiles, shards: int, command: Sequence[str]
) -> None:
    """Write down what this process was told, or refuse if another one was told something else.

    Parameters
    ----------
    out
        The shared folder.
    request
        What determines the result.
    model
        As found on this machine.
    shards
        In how many shards the work is cut; may differ from one start to the next.
    command
        The command line without its shard, to be shown where shards are missing.
    """
    from panimbus import __version__

    mine = {**_plain(asdict(request)), "model_sha256": model.sha256, "version": __version__}
    path = out / REQUEST
    file = {
        "format": _FORMAT,
        "request": mine,
        "shards": shards,
        "command": list(command),
        "folder": str(Path.cwd()),
    }
    there = _create(path, file)
    if there is None:
        return
    theirs = there["request"]
    differ = [
        f"{k}: {_short(theirs.get(k))} there, {_short(mine.get(k))} here"
        for k in mine
        if mine[k] != theirs.get(k)
    ]
    if differ:
        raise InputError(
            f"{path}: shards with other settings were started in this folder.",
            expected="the same images, labels, model and settings in every shard",
            got="; ".join(differ),
            fix=f"pass another --out, or remove {path} if those shards are not wanted any more",
        )
    if there["shards"] != shards:
        _replace(path, file)


def claim_backend(out: Path, name: str) -> None:
    """Likewise for what runs the net: machines may differ in it, and results would be mixed."""
    path = out / BACKEND
    there = _create(path, {"format": _FORMAT, "backend": name})
    if there is not None and there["backend"] != name:
        raise InputError(
            f"{path}: other shards compute in another way.",
            expected=str(there["backend"]),
            got=name,
            fix=(
                "start all shards with --precision float32 (and --device cpu where only some"
                " machines have a GPU), in another --out"
            ),
        )


@dataclass(frozen=True)
class RunManifest:
    """What `claim_folder` wrote.

    Parameters
    ----------
    request
    model_sha256
        Of the model that the shards used.
    shards
        In how many shards the work was cut.
    command, folder
        A shard's command line without its shard, and the working directory.
    backend
        What runs the net, None if no shard has scored yet.
    """

    request: Request
    model_sha256: str
    shards: int
    command: tuple[str, ...]
    folder: str
    backend: str | None

    def again(self, shard: int) -> str:
        """The command that does a shard once more."""
        return shlex.join([*self.command, "--shard", f"{shard}/{self.shards}"])


def read_manifest(out: Path) -> RunManifest:
    """Read what the shards in a folder were told.

    Raises
    ------
    ReadError
        If nothing was, or by another version.
    """
    path = out / REQUEST
    if not path.is_file():
        raise ReadError(
            f"{path}: there is no such file.",
            expected="a folder in which `panimbus predict --shard i/n --out` has run",
            fix="pass the --out of the shards",
        )
    data = _read(path)
    request, sha = _request_in(path, data["request"])
    backend = _read(out / BACKEND)["backend"] if (out / BACKEND).is_file() else None
    return RunManifest(
        request, sha, data["shards"], tuple(data["command"]), data["folder"], backend
    )


def _check_version(path: Path, version: str) -> None:
    from panimbus import __version__

    if version != __version__:
        raise ReadError(
            f"{path}: the shards ran with another version of panimbus.",
            expected=__version__,
            got=version,
        )


def _create(path: Path, data: Mapping[str, Any]) -> dict[str, Any] | None:
    """Write a file that is not there yet; what it says if it is.

    Of several processes just one writes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        temporary = temporary_name(path)
        try:
            temporary.write_text(json.dumps(data, indent=1), encoding="utf-8")
            os.link(temporary, path)  # fails where the name is taken, unlike a renaming
        except FileExistsError:
            return _read(path)
        except OSError:  # a file system without hard links
            with suppress(FileExistsError):
                _exclusive(path, data)
                return None
            return _read(path)
        else:
            return None
        finally:
            temporary.unlink(missing_ok=True)
            release_temporary(temporary)
    return _read(path)


def _exclusive(path: Path, data: Mapping[str, Any]) -> None:
    with path.open("x", encoding="utf-8") as file:
        json.dump(data, file, indent=1)


def _replace(path: Path, data: Mapping[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1), encoding="utf-8")


class _RequestFile(BaseModel):
    """What ``request.json`` says."""

    model_config = ConfigDict(strict=True)
    format: Literal[1]
    request: dict[str, Any]
    shards: Annotated[int, Field(ge=1)]
    command: list[str]
    folder: str


class _BackendFile(BaseModel):
    """What ``backend.json`` says."""

    model_config = ConfigDict(strict=True)
    format: Literal[1]
    backend: str


def _read(path: Path) -> dict[str, Any]:
    kind = _RequestFile if path.name == REQUEST else _BackendFile
    fix = "remove it and start the shards again"
    try:
        data = read_json(path)
    except ReadError as error:
        raise ReadError(f"{error}", fix=fix) from None
    return validate(
        kind,
        data,
        f"{path}: not what the shards wrote, or of another version.",
        fix=fix,
        kind=ReadError,
    ).model_dump()


def _request_in(path: Path, data: dict[str, Any]) -> tuple[Request, str]:
    """The request of ``request.json``, every type checked, and the hash of its model."""
    asked = dict(data)
    sha, version = asked.pop("model_sha256", None), asked.pop("version", None)
    _check_version(path, str(version))
    wrong = [
        f"{name}: there is no such setting"
        for name in asked
        if name not in Request.__dataclass_fields__
    ]
    wrong += [] if isinstance(sha, str) else ["model_sha256: there is none"]
    try:
        request = TypeAdapter(Request).validate_python(asked)
        wrong += [] if request.images else ["images: there are none"]
    except ValidationError as error:
        wrong += format_problems(error)
    if wrong or not isinstance(sha, str):
        got = "\n             ".join(wrong)
        raise ReadError(
            f"{path}: not what the shards wrote.",
            got=got,
            fix="remove it and start the shards again",
        )
    return request, sha


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives it back."""
    return dict(json.loads(json.dumps(data)))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
