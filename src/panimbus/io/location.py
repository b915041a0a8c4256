"""Locations of inputs: paths, and addresses of Zarr stores on servers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from panimbus.core.errors import InputError

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://")  # two letters at least: C:// is a drive
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’"}
_LOST_SLASH = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:/[^/]")


@dataclass(frozen=True)
class Url:
    """An address such as ``https://host/slide.zarr``, with the joining and naming of a path.

    Parameters
    ----------
    base
        The address without a slash at its end and without a query.
    query
        What follows the path (``?token=...``), which each request carries.
    """

    base: str
    query: str = ""

    @property
    def scheme(self) -> str:
        """``https``, ``s3`` and the like, in small letters."""
        return self.base.partition("://")[0].lower()

    @property
    def name(self) -> str:
        """Last part of the path, unquoted."""
        return unquote(self.base.rpartition("/")[2])

    @property
    def parent(self) -> Url:
        """Address of the parent folder."""
        return Url(self.base.rpartition("/")[0], self.query)

    @property
    def full(self) -> str:
        """Address as requested from the server; may contain a password or a token."""
        return self.base + self.query

    def __truediv__(self, name: str) -> Url:
        return Url(f"{self.base}/{name}", self.query)

    def __str__(self) -> str:
        """The address without user, password and query, for messages and records."""
        return re.sub(r"://[^/@]*@", "://", self.base)


Location = Path | Url
PathLike = str | Path | Url
Paths = PathLike | Sequence[PathLike] | Mapping[str, PathLike]


def clean_path(text: str) -> str:
    """Expand ``~`` and strip quotes around a path, unless a file of the literal name exists.

    Examples
    --------
    >>> clean_path("'my slide.tiff'"), clean_path("fov1.tiff")
    ('my slide.tiff', 'fov1.tiff')
    """
    if not text.strip(" \t").startswith((*_QUOTES, "~")):
        return text
    with suppress(OSError, ValueError):
        if Path(text).exists():
            return text
    bare = text.strip(" \t")
    if len(bare) > 2 and _QUOTES.get(bare[0]) == bare[-1]:
        bare = bare[1:-1]
    with suppress(RuntimeError):  # the home of nobody
        return str(Path(bare).expanduser()) if bare.startswith("~") else bare
    return bare


def resolve_path(base: Path, text: str | Path) -> Path:
    """Resolve a path named in a file relative to a folder; ``~`` is the home folder."""
    return base / clean_path(str(text))


def parse_location(given: str | Path | Url) -> Location:
    """Parse a path, or a `Url` if the text begins with ``https://``, ``s3://`` and the like.

    Examples
    --------
    >>> str(parse_location("https://me:secret@host/a/fov%201.zarr/?token=1"))
    'https://host/a/fov%201.zarr'
    >>> parse_location("s3://bucket/fov1.zarr").name
    'fov1.zarr'
    """
    if isinstance(given, Url):
        return given
    text = clean_path(str(given))
    if isinstance(given, Path):
        if _LOST_SLASH.match(text):
            raise InputError(
                f"{text}: an address that was made a Path, which loses one of its slashes.",
                fix="pass the address as text (str)",
            )
        return Path(text) if text != str(given) else given
    if not _SCHEME.match(text):
        return Path(text)
    if text.lower().startswith("file://"):
        return Path(unquote(urlsplit(text).path))
    base, mark, query = text.partition("?")
    base = base.partition("#")[0].rstrip("/")
    if base.partition("://")[2].partition("/")[0].strip() == "":
        raise InputError(
            f"{text}: the address names no server.", expected="such as https://host/slide.zarr"
        )
    return Url(base, mark + query.partition("#")[0])


def folder_name(where: Location) -> str:
    """Name of the parent folder."""
    return where.parent.name if isinstance(where, Url) else where.resolve().parent.name


def parse_locations(paths: str | Path | Url | Sequence[str | Path | Url]) -> list[Location]:
    """Parse one path or several, each as a `Path` or a `Url`."""
    if isinstance(paths, (str, Path, Url)):
        return [parse_location(paths)]
    given = list(paths) if isinstance(paths, Iterable) else [paths]
    if wrong := [p for p in given if not isinstance(p, (str, Path, Url))]:
        raise InputError(
            "the input is not a path.",
            expected="a path, or several",
            got=f"a {type(wrong[0]).__name__}",
            fix="make FOVs of arrays: panimbus.from_array(image, labels, channels=..., mpp=...)",
        )
    return [parse_location(p) for p in given]
