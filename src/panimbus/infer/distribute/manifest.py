"""The manifest of a run in shards: what all of them were asked for, and `merge` reads back."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from panimbus.core.errors import InputError, ReadError
from panimbus.core.fov import Fov
from panimbus.core.scale import ChannelScale
from panimbus.infer.settings import PredictSettings
from panimbus.io import open_fovs
from panimbus.io.documents import format_problems, read_json, validate
from panimbus.io.files import release_temporary, temporary_name, write_json
from panimbus.io.location import parse_location
from panimbus.model.weights import ModelFiles, resolve_model, shipped_models

REQUEST, BACKEND = "request.json", "backend.json"
_FORMAT = 1
_SETTINGS = (
    "tta",
    "tile",
    "precision",
    "device",
    "on_error",
    "evidence",
    "thresholds",
    "min_area",
    "max_area",
    "allow_odd_labels",
)
"""The settings that the result depends on: the same in all shards."""


@dataclass(frozen=True)
class Request:
    """All that determines the result of `panimbus predict`, as names and numbers.

    Parameters
    ----------
    images, labels
        Paths or addresses; without labels, those inside the images.
    channels
        Names to score; default: all channels.
    pairs, channel_names, channel_types, mpp, dark_level, exclude
        As `open_fovs` takes them.
    model
        Name or path; default: the default model.
    scale
        A given normaliser (`ChannelScale.to_dict`); default: fit one.
    settings
        How to run. Threads may differ between shards.
    """

    images: tuple[str, ...]
    labels: tuple[str, ...] = ()
    pairs: str | None = None
    channels: tuple[str, ...] | None = None
    channel_names: str | None = None
    channel_types: str | None = None
    mpp: float | None = None
    dark_level: float | None = None
    exclude: str | None = None
    model: str | None = None
    scale: dict[str, Any] | None = None
    settings: PredictSettings = field(default_factory=PredictSettings)

    def absolute(self) -> Request:
        """The same request from any working directory."""
        if self.pairs is not None and self.labels:
            raise InputError("--labels and --pairs cannot be combined.", fix="omit one of them")
        types, model = self.channel_types, self.model
        if model is not None and model not in {*shipped_models(), "default", "nimbus"}:
            path = Path(model).expanduser()
            model = shared_path(path) if path.is_file() else model
        return replace(
            self,
            images=tuple(map(shared_path, self.images)),
            labels=tuple(map(shared_path, self.labels)),
            pairs=self.pairs and shared_path(self.pairs),
            channel_names=self.channel_names and shared_path(self.channel_names),
            exclude=self.exclude and shared_path(self.exclude),
            channel_types=shared_path(types) if types and Path(types).is_file() else types,
            model=model,
        )

    def to_dict(self) -> dict[str, Any]:
        """All that the result depends on, as JSON gives it back."""
        data = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "settings"}
        data |= {name: getattr(self.settings, name) for name in _SETTINGS}
        return dict(json.loads(json.dumps(data, default=dict)))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Request:
        """Inverse of `to_dict`; raises pydantic's ``ValidationError`` or `InputError`."""
        settings = {name: data[name] for name in _SETTINGS if name in data}
        rest = {name: value for name, value in data.items() if name not in settings}
        return TypeAdapter(Request).validate_python({**rest, "settings": settings})

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
            exclude=self.exclude,
            counterstains=True,
        )

    def files(self) -> ModelFiles:
        """The model."""
        return resolve_model(self.model)


def shared_path(given: str | Path) -> str:
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
    """Write the request into the shared folder, or refuse if another one is there.

    Parameters
    ----------
    out
        The shared folder.
    request
        What determines the result.
    model
        The model's files on this machine.
    shards
        Number of shards; may differ from one start to the next.
    command
        The command line without its shard, shown where shards are missing.
    """
    from panimbus import __version__

    new = {**request.to_dict(), "model_sha256": model.sha256, "version": __version__}
    path = out / REQUEST
    data = {
        "format": _FORMAT,
        "request": new,
        "shards": shards,
        "command": list(command),
        "folder": str(Path.cwd()),
    }
    earlier = _create(path, data)
    if earlier is None:
        return
    old = earlier["request"]
    if differences := [
        f"{k}: {_short(old.get(k))} there, {_short(v)} here"
        for k, v in new.items()
        if v != old.get(k)
    ]:
        raise InputError(
            f"{path}: shards with other settings were started in this folder.",
            expected="the same images, labels, model and settings in every shard",
            got="; ".join(differences),
            fix=f"pass another --out, or remove {path} if those shards are no longer wanted",
        )
    if earlier["shards"] != shards:
        write_json(path, data)


def claim_backend(out: Path, name: str) -> None:
    """Write the name of the backend, or refuse if other shards have another: scores would mix."""
    path = out / BACKEND
    earlier = _create(path, {"format": _FORMAT, "backend": name})
    if earlier is not None and earlier["backend"] != name:
        raise InputError(
            f"{path}: other shards run on another backend.",
            expected=str(earlier["backend"]),
            got=name,
            fix=(
                "start all shards with --precision float32 (and --device cpu where only some"
                " machines have a GPU), in another --out"
            ),
        )


@dataclass(frozen=True)
class RunManifest:
    """What `claim_folder` and `claim_backend` wrote.

    Parameters
    ----------
    request
    model_sha256
        Of the model that the shards used.
    shards
        Number of shards.
    command, folder
        A shard's command line without its shard, and the working directory.
    backend
        Name of the backend; None if no shard has scored yet.
    """

    request: Request
    model_sha256: str
    shards: int
    command: tuple[str, ...]
    folder: str
    backend: str | None

    def shard_command(self, number: int) -> str:
        """The command that runs a shard again."""
        return shlex.join([*self.command, "--shard", f"{number}/{self.shards}"])


def read_manifest(out: Path) -> RunManifest:
    """Read what the shards in a folder were asked for.

    Raises
    ------
    ReadError
        If no shard ran there, or one of another version.
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
        if name not in Request.__dataclass_fields__ and name not in _SETTINGS
    ]
    wrong += [] if isinstance(sha, str) else ["model_sha256: there is none"]
    try:
        request = Request.from_dict(asked)
        wrong += [] if request.images else ["images: there are none"]
    except ValidationError as error:
        wrong += format_problems(error)
    except InputError as error:
        wrong.append(str(error))
    if wrong or not isinstance(sha, str):
        got = "\n             ".join(wrong)
        raise ReadError(
            f"{path}: not what the shards wrote.",
            got=got,
            fix="remove it and start the shards again",
        )
    return request, sha


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
