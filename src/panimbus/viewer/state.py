"""What all pages of one server share, and what one page knows of its reader."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlencode

from panimbus.viewer.overview import Overviews
from panimbus.viewer.pictures import Pictures
from panimbus.viewer.result import Result, Tables
from panimbus.viewer.thresholds import Thresholds
from panimbus.viewer.types import TypeEdits

NAME_COOKIE = "panimbus_name"
_LONGEST_NAME = 40


@dataclass(eq=False)
class Viewer:
    """The state of one server.

    Parameters
    ----------
    result
    read_only
        Whether pages may change nothing: no annotations, thresholds or edits.
    cache
        Folder for overviews of large files without a pyramid; None: ``viewer-cache`` in the
        result's folder, unless ``read_only``.
    """

    result: Result
    read_only: bool = False
    cache: Path | None = None
    run: str = field(default_factory=lambda: secrets.token_hex(4))
    pictures: Pictures = field(init=False)
    overviews: Overviews = field(init=False)
    thresholds: Thresholds = field(init=False)
    types: TypeEdits | None = field(init=False)

    def __post_init__(self) -> None:
        own = None if self.read_only else self.result.folder / "viewer-cache"
        self.pictures = Pictures(self.result)
        self.thresholds = Thresholds(self.result)
        self.types = None if self.result.types_folder is None else TypeEdits(self.result)
        self.overviews = Overviews(self.pictures, self.cache or own)

    @property
    def tables(self) -> Tables:
        """The tables as they are now."""
        return self.result.tables

    @property
    def version(self) -> str:
        """Changes with the tables; in every picture's address, so that browsers may keep it."""
        return f"{self.run}-{self.tables.version}"

    def address(self, kind: str, fov_id: str, rest: str, **query: object) -> str:
        """Address of a picture: ``/kind/number of the FOV/rest?query``.

        Parameters
        ----------
        kind
            ``tiles``, ``crops``, ``thumbs`` or ``views``.
        rest
            ``image/{z}/{x}/{y}.png`` and the like.
        query
            Parameters of the picture; None leaves one out.
        """
        number = self.result.fovs.index(fov_id)
        given = {k: str(v) for k, v in query.items() if v is not None}
        return f"/{kind}/{number}/{rest}?{urlencode({**given, 'v': self.version}, safe=',;')}"


@dataclass(frozen=True)
class Page:
    """One page that a reader opened.

    Parameters
    ----------
    viewer
    key
        Name of the page's module, also its address.
    fov_id
        The FOV chosen.
    annotator
        Name under which the reader annotates; "" until one was given.
    query
        Further parameters of the address.
    """

    viewer: Viewer
    key: str
    fov_id: str
    annotator: str
    query: dict[str, str]

    def link(self, key: str | None = None, **query: object) -> str:
        """Address of a page, by default this one, with the same FOV.

        Examples: ``page.link("tissue", cell=12, marker="CD20")``.
        """
        given = {"fov": self.fov_id, **{k: str(v) for k, v in query.items() if v is not None}}
        return f"/{key or self.key}?{urlencode(given, quote_via=quote)}"


def clean_name(text: str) -> str:
    r"""A reader's name: printable, without spaces at its ends, at most 40 characters.

    Examples
    --------
    >>> clean_name("  Ada\n<b> ")
    'Ada<b>'
    """
    return "".join(c for c in text if c.isprintable()).strip()[:_LONGEST_NAME]


def name_from_cookie(value: str | None) -> str:
    """The reader's name as the browser keeps it."""
    return clean_name(unquote(value or "")[:400])
