"""One page (HTML with everything inside) about the cell types of a table."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING

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
from panimbus.phenotype.summary import Summary
from panimbus.render.figures import FOVS, METACLUSTERS, PAIRS, POSITIVE, TYPES
from panimbus.render.palette import Rgb

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

_STYLE = """
body { background: #fafaf8; color: #222428; font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 20px 24px 60px; } h1 { font-size: 26px; margin: 0; } h2 { margin: 34px 0 8px; }
h2 { font-size: 19px; } h3 { font-size: 15px; margin: 18px 0 6px; } p { margin: 4px 0 10px; } .wide { overflow-x: auto; }
.soft, th, .big div { color: #70747a; font-size: 13px; } .big { display: flex; flex-wrap: wrap; gap: 12px 44px; margin: 18px 0; }
.big b { display: block; font-size: 27px; color: #222428; } table { border-collapse: collapse; font-size: 13px; margin: 0 0 8px; }
th, td { padding: 3px 12px 3px 0; text-align: left; vertical-align: top; border-bottom: 1px solid #e2e1dc; }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; } img { height: auto; }
i.c { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 7px; vertical-align: -1px; }
.warn { border-left: 4px solid #d08a1d; padding: 6px 12px; background: #fff8ea; margin: 6px 0; } .fit { max-width: 100%; }
"""
_BY = {
    "types": (
        "types compete for each cell on the scores of all markers, each of which counts as much as"
        " it is reliable here."
    ),
    "clusters": (
        "a cell has the type of its metacluster, which is that of the mean of its cells'"
        " probabilities."
    ),
}
_MOST = 20  # rows of a table of pairs or reasons


def html_report(
    table: AnnData, summary: Summary, figures: Mapping[str, bytes], about: Mapping[str, str]
) -> str:
    """The page as text, with the facts ``about`` the run.

    Titles of ``figures`` (PNG) of the tissue begin with ``FOV``.
    """
    tissue = [t for t in figures if t.startswith("FOV")]
    others = [t for t in figures if t not in (*tissue, TYPES, METACLUSTERS, PAIRS, FOVS, POSITIVE)]
    alone, hidden = len(summary.composition) == 1, len(summary.composition) - len(tissue)
    sections = {
        "Types": _types(summary) + _images(figures, [TYPES]),
        "Markers that contradict one another": _contradictions(summary) + _images(figures, [PAIRS]),
        "Do the FOVs agree?": (
            _warnings(
                summary.batch.warnings, "There is only one." if alone else "No FOV stands out."
            )
            + "<p class=soft>Nothing is corrected: a FOV may differ because its tissue does.</p>"
            + _images(figures, [FOVS, POSITIVE])
        ),
        "Metaclusters": _metaclusters(summary) + _images(figures, [METACLUSTERS, *others]),
        "Why cells have no type, or no finer one": _reasons(table),
        "Edits by hand": _edits(table),
        "The rules": _rules(table, summary),
        "The tissue": (
            _images(figures, tissue, "class=fit")
            + f"<p class=soft>FOVs not shown here: {hidden}. All are in the folder labels.</p>"
            * bool(tissue and hidden)
        ),
    }
    facts = "<br>".join(f"{escape(k)}: <code>{escape(v)}</code>" for k, v in about.items())
    head = (
        '<head><meta charset="utf-8"><title>Cell types</title><meta name="viewport"'
        ' content="width=device-width">'
    )
    body = "".join(f"<h2>{title}</h2>{text}" for title, text in sections.items() if text)
    body = (
        "<body><main><h1>Cell types</h1><p"
        f" class=soft>{facts}</p>{_headline(summary)}{body}</main></body>"
    )
    return f'<!doctype html><html lang="en">{head}<style>{_STYLE}</style></head>{body}</html>\n'


def _headline(summary: Summary) -> str:
    s, fovs = summary.shares, len(summary.composition)
    numbers = {f"cells in {fovs} FOV{'s' * (fovs > 1)}": f"{s.cells:,}"}
    numbers |= {
        "typed to the finest level": f"{s.finest:.1f} %",
        "typed to an ancestor only": f"{s.ancestor:.1f} %",
    }
    numbers |= {
        "no type": f"{s.none:.1f} %",
        "typed, but positive for a marker of another type": f"{s.contradictory:.1f} %",
    }
    numbers |= {
        "typed as the likeliest, below the threshold of the type's markers": f"{s.faint:.1f} %"
    }
    numbers |= {"objects that are no cells: not typed": f"{s.objects:,}"} if s.objects else {}
    return (
        "<div"
        f" class=big>{''.join(f'<div><b>{n}</b>{what}</div>' for what, n in numbers.items())}</div>"
    )


def _types(summary: Summary) -> str:
    heads = {
        CELL_TYPE: "cell type",
        "cells": "cells",
        "percent": "% of all",
        CONFIDENCE: "confidence",
    }
    heads |= {"contradictory": "% contradictory", MIXED: "mixed"}
    note = (
        "Means; confidence: probability of the type and those below it; mixed: that of two cells in"
        " one, or of a bad cut."
    )
    return f"{_table(summary.types, heads, summary.colours)}<p class=soft>{note}</p>"


def _contradictions(summary: Summary) -> str:
    many = summary.pairs[summary.pairs["many"]]
    heads = {"marker": "marker", "other": "contradicts", "cells": "cells positive for both"}
    shares = {
        "share": "% of all",
        "share_of_marker": "% of the marker's",
        "share_of_other": "% of the other's",
    }
    out = _warnings(
        summary.warnings, "No two markers that exclude one another are often positive together."
    )
    out += _table(many[:_MOST].assign(**{s: 100 * many[s] for s in shares}), heads | shares)
    out += f"<p class=soft>Pairs not shown here: {len(many) - _MOST}.</p>" * (len(many) > _MOST)
    trust = [
        f"{escape(m)}&nbsp;{r:.2f}"
        for m, r in summary.reliability.sort_values("reliability").itertuples(index=False)
    ]
    return (
        f"{out}<p class=soft>Reliability (1: contradicts no marker that is reliable itself):"
        f" {', '.join(trust)}.</p>"
    )


def _metaclusters(summary: Summary) -> str:
    heads = {METACLUSTER: "", CELL_TYPE: "type", "proposal": "proposed type", "cells": "cells"}
    heads |= {"stability": "stability", "agreement": "agreement"}
    note = (
        "Type: the commonest, or one given by hand. Stability: how well it is recovered when nodes"
        " are left out (1: always)."
    )
    note += (
        " Agreement: share of its cells that have, one by one, the proposed type or one below it."
    )
    return f"{_table(summary.metaclusters, heads, summary.colours)}<p class=soft>{note}</p>"


def _reasons(table: AnnData) -> str:
    about, types = table.uns[PHENOTYPE], table.obs[CELL_TYPE].astype(str)
    why = table.obs[REASON].astype(str).str.split("; contradicted by").str[0]
    count = (
        why.groupby([types.rename("type"), why.rename("why")]).size().rename("cells").reset_index()
    )
    unfinished = ({UNASSIGNED}, {*map(str, about["types"])} - {*map(str, about["finest"])})
    parts = [count[count["type"].isin(group)].nlargest(_MOST, "cells") for group in unfinished]
    return "".join(
        _table(p, {"type": "type", "cells": "cells", "why": "commonest reasons, cell by cell"})
        for p in parts
    )


def _edits(table: AnnData) -> str:
    about = table.uns[PHENOTYPE]
    standing = set(np.asarray(about["standing"]).ravel().tolist())
    out = ""
    for i, edit in enumerate(json.loads(str(about["edits"]))):
        undone = i not in standing and edit["op"] not in ("undo", "redo")
        out += f"<li><code>{escape(json.dumps(edit))}</code>{' (undone)' * undone}</li>"
    return f"<ol>{out}</ol>" * bool(out)


def _rules(table: AnnData, summary: Summary) -> str:
    about = table.uns[PHENOTYPE]
    limits = ", ".join(f"{m} {t:g}" for m, t in json.loads(str(about["thresholds"])).items())
    without = ", ".join(map(str, np.asarray(about["without"]).ravel()))
    clustered = ", ".join(map(str, table.uns[CLUSTERING]["markers"]))
    lines = [
        f"--by {about['by']}: {_BY[str(about['by'])]}",
        f"Rules: {about['rules']}.",
        f"Clustered on: {clustered}.",
    ]
    lines += [f"Positive from: {limits}; others 0.5." if limits else "Positive from 0.5."]
    lines += [f"Markers left out: {without}."] if without else []
    notes = "".join(f"<li>{escape(n)}</li>" for n in summary.notes)
    return "".join(
        f"<p>{escape(line)}</p>" for line in lines
    ) + f"<ul class=soft>{notes}</ul>" * bool(notes)


def _warnings(sentences: Iterable[str], nothing: str) -> str:
    return "".join(f"<p class=warn>{escape(s)}</p>" for s in sentences) or f"<p>{nothing}</p>"


def _table(
    frame: pd.DataFrame, heads: Mapping[str, str], colours: Mapping[str, Rgb] | None = None
) -> str:
    """Text, and numbers in columns of their own; nothing if there is no row.

    Types have their colours beside them.
    """
    swatch = {t: f"<i class=c style='background: rgb{c}'></i>" for t, c in (colours or {}).items()}
    body = ""
    for row in frame[list(heads)].itertuples(index=False):
        body += "<tr>"
        for v in row:
            number = (
                ""
                if isinstance(v, str)
                else f"{v:{'.2f' if isinstance(v, float) else ','}}".replace("nan", "–")
            )
            body += f"<td class=n>{number}" if number else f"<td>{swatch.get(v, '')}{escape(v)}"
    head = "".join(f"<th>{h}</th>" for h in heads.values())
    return f"<div class=wide><table><tr>{head}</tr>{body}</table></div>" * bool(body)


def _images(figures: Mapping[str, bytes], titles: Iterable[str], fit: str = "") -> str:
    """Those that are there, at 87 pixels to the inch.

    What is wider than the page can be scrolled, or is made to fit.
    """
    out = ""
    for title in (t for t in titles if t in figures):
        width, data = (
            int.from_bytes(figures[title][16:20]) * 2 // 3,
            base64.b64encode(figures[title]).decode(),
        )
        out += f"<h3>{escape(title)}</h3><div class=wide>"
        out += (
            f'<img {fit} width={width} alt="{escape(title)}"'
            f' src="data:image/png;base64,{data}"></div>'
        )
    return out
