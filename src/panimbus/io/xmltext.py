"""XML that stands in image files: parsed without entities, found without namespaces."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from panimbus.core.errors import ReadError

Element = ET.Element


def parse(text: str | bytes, where: object) -> Element:
    """Root element of ``text``; XML that declares entities, or is broken, is a `ReadError` naming ``where``."""
    head = text[:4096]
    dangerous = b"<!" in head.replace(b"<!--", b"") if isinstance(head, bytes) else "<!" in head.replace("<!--", "")
    if dangerous:
        raise ReadError(f"{where}: the XML declares a document type or entities, which image files have no use for.")
    if isinstance(text, str):
        text = text.lstrip("\ufeff").strip().strip("\x00")
    try:
        return ET.fromstring(text)  # noqa: S314  no document type gets here
    except (ET.ParseError, ValueError) as error:
        start = text[:60]
        raise ReadError(f"{where}: the XML in the file cannot be parsed.", got=f"{error}; it begins with {start!r}") from error


def local(element: Element) -> str:
    """Tag without its namespace."""
    return element.tag.rsplit("}", 1)[-1]


def inside(element: Element, name: str) -> list[Element]:
    """Direct children called ``name``, whatever the namespace."""
    return [child for child in element if local(child) == name]
