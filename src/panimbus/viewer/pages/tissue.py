"""Tissue: the image with outlines of its cells, from the whole slide to one cell."""

from __future__ import annotations

from nicegui import ui

from panimbus.viewer.state import Page

TITLE = "Tissue"


def build(page: Page) -> None:
    """Build the page."""
    ui.label(page.fov_id)
