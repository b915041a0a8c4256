"""Readers of JSON and TOML: bounded size and depth, validated with pydantic."""

from __future__ import annotations

import json
import stat
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from panimbus.core.errors import InputError, ReadError
from panimbus.core.guard import describe_error

LARGEST = 256 << 20
"""Largest text file that is read, in bytes."""
_DEEPEST = 100
_SHOWN = 12
Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """Frozen settings that refuse unknown keys, NaN and infinite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def check_regular(path: Path, expected: str) -> None:
    """Refuse anything but a regular file: reading a pipe may never end.

    Raises
    ------
    ReadError
        If the path is missing, a folder, a pipe or a device.
    """
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        raise ReadError(f"{path}: there is no such file.", expected=expected) from None
    except (OSError, ValueError) as error:
        raise ReadError(
            f"{path}: the file cannot be opened.", expected=expected, got=describe_error(error)
        ) from None
    if not stat.S_ISREG(kind):
        other = (
            "a folder" if stat.S_ISDIR(kind) else "neither a file nor a folder (a pipe or a device)"
        )
        raise ReadError(f"{path}: this is {other}.", expected=expected)


def read_text(path: Path, expected: str = "a text file (UTF-8)", *, largest: int = LARGEST) -> str:
    """Read a UTF-8 text file, without the byte order mark.

    Raises
    ------
    ReadError
        If it is missing, no regular file, larger than ``largest`` bytes, or not text.
    """
    check_regular(path, expected)
    try:
        with path.open("rb") as file:
            data = file.read(largest + 1)
    except OSError as error:
        raise ReadError(
            f"{path}: the file cannot be opened.", expected=expected, got=describe_error(error)
        ) from None
    if len(data) > largest:
        raise ReadError(
            f"{path}: the file is too large.", expected=f"{expected}, at most {largest:,} bytes"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ReadError(
            f"{path}: the file is not text in UTF-8.",
            expected=expected,
            got=describe_error(error),
            fix="save it again as UTF-8",
        ) from None


def parse_json(
    text: str | bytes, where: object, expected: str = "JSON", *, unique: bool = False
) -> Any:
    """Parse a JSON document; NaN and Infinity are allowed.

    Parameters
    ----------
    unique
        Refuse duplicate keys (JSON keeps the last one): for files that people edit.

    Raises
    ------
    ReadError
        If it is not JSON, or nested more than 100 deep.
    """
    try:
        data = json.loads(text, object_pairs_hook=_unique_keys if unique else None)
    except (ValueError, RecursionError) as error:
        raise ReadError(
            f"{where}: this is not JSON.", expected=expected, got=describe_error(error)
        ) from None
    data = _check_depth(data, where)
    if (b"\\ud" if isinstance(text, bytes) else "\\ud") in text.lower():  # type: ignore[operator]
        try:
            json.dumps(data, ensure_ascii=False).encode()
        except (
            UnicodeEncodeError
        ) as error:  # half of a character, which no file name, table or message can hold
            raise ReadError(
                f"{where}: it holds text that is none.",
                expected=expected,
                got=describe_error(error),
            ) from None
    return data


def parse_toml(text: str, where: object, expected: str = "TOML") -> dict[str, Any]:
    """Parse a TOML document; raises as `parse_json`."""
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ReadError(
            f"{where}: this is not TOML.", expected=expected, got=describe_error(error)
        ) from None
    return dict(_check_depth(data, where))


def read_json(path: Path, expected: str = "a JSON file", *, unique: bool = False) -> Any:
    """`read_text`, then `parse_json`."""
    return parse_json(read_text(path, expected), path, expected, unique=unique)


def read_toml(path: Path, expected: str = "a TOML file") -> dict[str, Any]:
    """`read_text`, then `parse_toml`."""
    return parse_toml(read_text(path, expected), path, expected)


def validate(
    model: type[Model],
    data: Any,
    message: str,
    *,
    fix: str | None = None,
    available: Iterable[str] | None = None,
    kind: type[InputError] = InputError,
) -> Model:
    """Validate ``data`` with a pydantic model; the `InputError` lists every problem."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise kind(
            message,
            got="\n             ".join(format_problems(error, model)),
            fix=fix,
            available=available,
        ) from None


def format_problems(error: ValidationError, model: type[BaseModel] | None = None) -> list[str]:
    """Validation errors as sentences with their location, at most 12."""
    out = []
    for problem in error.errors(include_url=False, include_context=False):
        place = ".".join(map(str, problem["loc"])) or "the file"
        if problem["type"] == "extra_forbidden":
            out.append(f"{place}: there is no such setting{_did_you_mean(model, problem['loc'])}")
        else:
            out.append(f"{place}: {problem['msg'].removeprefix('Value error, ')}")
    return out if len(out) <= _SHOWN else [*out[:_SHOWN], f"... and {len(out) - _SHOWN} more"]


def _did_you_mean(model: type[BaseModel] | None, place: Sequence[int | str]) -> str:
    """Suggestion of a setting with a similar name."""
    from difflib import get_close_matches

    for key in place[:-1]:
        field = None if model is None else model.model_fields.get(str(key))
        model = (
            model
            if isinstance(key, int)
            else None
            if field is None
            else _model_in(field.annotation)
        )
    names = [] if model is None else get_close_matches(str(place[-1]), model.model_fields, 1)
    return f"; did you mean {names[0]}?" if names else ""


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Model inside an annotation such as ``tuple[Arm, ...]`` or ``Arm | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(
        (model for part in get_args(annotation) if (model := _model_in(part)) is not None), None
    )


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in pairs:
        if key in out:
            raise ValueError(f"the key {key!r} is there twice")
        out[key] = value
    return out


def _check_depth(data: Any, where: object) -> Any:
    """Refuse data nested so deeply that recursive code would fail."""
    level = [data]
    for _ in range(_DEEPEST):
        level = [
            inner
            for item in level
            if isinstance(item, (Mapping, list))
            for inner in (item.values() if isinstance(item, Mapping) else item)
            if isinstance(inner, (Mapping, list))
        ]
        if not level:
            return data
    raise ReadError(
        f"{where}: its values are nested too deep.", expected=f"at most {_DEEPEST} levels"
    )
