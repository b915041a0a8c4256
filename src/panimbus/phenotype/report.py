"""The report of cell types, one page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from panimbus.core.table import (
    CELL_TYPE,
    CLUSTERING,
    CONFIDENCE,
    METACLUSTER,
    MIXED,
    PHENOTYPE,
    REASON,
    UNASSIGNED,
)
from panimbus.phenotype.figures import FOVS, METACLUSTERS, PAIRS, POSITIVE, TYPES
from panimbus.phenotype.summary import Summary
from panimbus.render.page import render_page

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

_MOST = 20  # rows of a table of pairs or reasons
_TYPES = {
    CELL_TYPE: "cell type", "cells": "cells", "percent": "% of all", CONFIDENCE: "confidence",
    "contradictory": "% contradictory", MIXED: "mixed",
}  # fmt: skip
_PAIRS = {
    "marker": "marker", "other": "contradicts", "cells": "cells positive for both",
    "share": "% of all", "share_of_marker": "% of the marker's",
    "share_of_other": "% of the other's",
}  # fmt: skip
_METACLUSTERS = {
    METACLUSTER: "", CELL_TYPE: "type", "proposal": "proposed type", "cells": "cells",
    "stability": "stability", "agreement": "agreement",
}  # fmt: skip
_REASONS = {"type": "type", "cells": "cells", "why": "commonest reasons, cell by cell"}


def html_report(
    table: AnnData, summary: Summary, figures: Mapping[str, bytes], about: Mapping[str, str]
) -> str:
    """The page as text, with the facts ``about`` the run.

    Titles of ``figures`` (PNG) of the tissue begin with ``FOV``.
    """
    sections = type_sections(table, summary, figures)
    return render_page("types.html", title="Cell types", about=about, t=sections)


def type_sections(table: AnnData, summary: Summary, figures: Mapping[str, bytes]) -> dict[str, Any]:
    """What the sections of a page about cell types show (``type_sections.html``)."""
    tissue = [t for t in figures if t.startswith("FOV")]
    others = [t for t in figures if t not in (*tissue, TYPES, METACLUSTERS, PAIRS, FOVS, POSITIVE)]
    many = summary.pairs[summary.pairs["many"]]
    shares = ["share", "share_of_marker", "share_of_other"]
    pairs = many[:_MOST].assign(**{s: 100 * many[s] for s in shares})
    trust = summary.reliability.sort_values("reliability")
    return {
        "summary": summary,
        "types": _rows(summary.types, _TYPES),
        "pairs": _rows(pairs, _PAIRS),
        "hidden_pairs": max(len(many) - _MOST, 0),
        "reliability": list(trust.itertuples(index=False)),
        "metaclusters": _rows(summary.metaclusters, _METACLUSTERS),
        "reasons": _reasons(table),
        "edits": _edits(table),
        "hidden_fovs": len(summary.composition) - len(tissue),
        "figures": {
            "types": _images(figures, [TYPES]),
            "pairs": _images(figures, [PAIRS]),
            "fovs": _images(figures, [FOVS, POSITIVE]),
            "tissue": _images(figures, tissue),
            "metaclusters": _images(figures, [METACLUSTERS, *others]),
        },
        **_settings(table),
    }


def _rows(frame: pd.DataFrame, heads: Mapping[str, str]) -> list[list[Any]]:
    """Head and rows of a table, for the template."""
    rows: list[list[Any]] = frame[list(heads)].to_numpy(object).tolist()
    return [list(heads.values()), *rows]


def _reasons(table: AnnData) -> list[list[list[Any]]]:
    """The commonest reasons of cells without a type, and of those without a finer one."""
    about, types = table.uns[PHENOTYPE], table.obs[CELL_TYPE].astype(str)
    why = table.obs[REASON].astype(str).str.split("; contradicted by").str[0]
    count = why.groupby([types.rename("type"), why.rename("why")]).size()
    frame = count.rename("cells").reset_index()
    unfinished = ({UNASSIGNED}, {*map(str, about["types"])} - {*map(str, about["finest"])})
    parts = [frame[frame["type"].isin(group)].nlargest(_MOST, "cells") for group in unfinished]
    return [_rows(part, _REASONS) for part in parts if len(part)]


def _edits(table: AnnData) -> list[tuple[str, bool]]:
    """Each edit, and whether it was undone."""
    about = table.uns[PHENOTYPE]
    standing = set(np.asarray(about["standing"]).ravel().tolist())
    edits = json.loads(str(about["edits"]))
    return [
        (json.dumps(edit), i not in standing and edit["op"] not in ("undo", "redo"))
        for i, edit in enumerate(edits)
    ]


def _settings(table: AnnData) -> dict[str, Any]:
    about = table.uns[PHENOTYPE]
    return {
        "by": str(about["by"]),
        "rules": str(about["rules"]),
        "clustered": list(map(str, table.uns[CLUSTERING]["markers"])),
        "limits": json.loads(str(about["thresholds"])),
        "without": list(map(str, np.asarray(about["without"]).ravel())),
    }


def _images(figures: Mapping[str, bytes], titles: Iterable[str]) -> list[tuple[str, bytes, int]]:
    """Title, PNG and width at 87 pixels per inch (the files have 130) of those that exist."""
    return [
        (t, figures[t], int.from_bytes(figures[t][16:20]) * 2 // 3) for t in titles if t in figures
    ]
