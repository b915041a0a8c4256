"""Safe parsing of XML in image files: no entities, bounded size and depth, no namespaces."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET
from xml.parsers import expat

from panimbus.core.errors import ReadError
from panimbus.core.guard import describe_error

Element = ET.Element
LARGEST = 64 << 20
"""Largest XML in bytes; that of a slide with a hundred channels takes 100 kB."""
_DEEPEST = 100


class _RootReached(Exception):  # noqa: N818  not an error: the prolog has been looked at
    """The root element begins, after which no document type can follow."""


def parse_xml(text: str | bytes, where: object) -> Element:
    """Root element of ``text``.

    Raises
    ------
    ReadError
        Naming ``where``, if the XML declares a document type or entities, is broken, larger than 64
        MiB, or nested more than 100 deep.
    """
    if len(text) > LARGEST:
        raise ReadError(
            f"{where}: the XML in the file is too large.",
            expected=f"at most {LARGEST:,} characters",
        )
    if isinstance(text, str):
        text = text.lstrip("\ufeff").strip().strip("\x00")
    try:
        _check_prolog(text, where)
        return _check_depth(ET.fromstring(text), where)  # noqa: S314  no document type gets here
    except (ET.ParseError, expat.ExpatError, ValueError, LookupError) as error:
        got = f"{describe_error(error)}; it begins with {text[:60]!r}"
        raise ReadError(f"{where}: the XML in the file cannot be parsed.", got=got) from error


def read_xml(path: Path) -> Element:
    """Root element of an XML file; raises as `parse_xml`, also if the path is no regular file."""
    if not path.is_file():
        raise ReadError(f"{path}: this is no regular file.", expected="an XML file")
    with path.open("rb") as file:
        return parse_xml(file.read(LARGEST + 1), path)


def _check_prolog(text: str | bytes, where: object) -> None:
    """Refuse a document type, which can only precede the root element."""

    def refuse(*_: Any) -> None:
        raise ReadError(
            f"{where}: the XML declares a document type or entities, which image files have no use"
            " for."
        )

    def stop(*_: Any) -> None:
        raise _RootReached

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = stop
    try:
        parser.Parse(text, True)  # noqa: FBT003  expat takes it by position
    except _RootReached:
        return


def _check_depth(root: Element, where: object) -> Element:
    level = [root]
    for _ in range(_DEEPEST):
        level = [child for element in level for child in element]
        if not level:
            return root
    raise ReadError(
        f"{where}: the XML in the file is nested too deep.", expected=f"at most {_DEEPEST} levels"
    )


def local_name(element: Element) -> str:
    """Tag without its namespace."""
    return element.tag.rsplit("}", 1)[-1]


def children_named(element: Element, name: str) -> list[Element]:
    """Direct children called ``name``, whatever the namespace."""
    return [child for child in element if local_name(child) == name]
