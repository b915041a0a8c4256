"""The viewer's pages: each a module with ``TITLE`` and ``NAME_page(page)``."""

PAGES = ("tissue", "markers", "review", "types")
"""Modules of this package, in the order of the navigation; the first one is shown first."""
