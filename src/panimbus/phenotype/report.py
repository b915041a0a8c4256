"""One page (HTML with everything inside) about the cell types of a table."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from panimbus.core.table import CELL_TYPE, CLUSTERING, FOV, METACLUSTER, PHENOTYPE
from panimbus.phenotype.lineage import AMBIGUOUS, UNASSIGNED
from panimbus.phenotype.run import RULE_REASON, RULE_TYPE
from panimbus.phenotype.summary import PAPER_ASSIGNED, Summary, contradictory

if TYPE_CHECKING:
    from anndata import AnnData

_STYLE = """
:root { --ink: #222428; --soft: #70747a; --line: #e2e1dc; --paper: #fafaf8; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 24px 60px; }
h1 { font-size: 26px; margin: 0 0 2px; } h2 { font-size: 19px; margin: 34px 0 8px; }
p { margin: 4px 0 10px; } .soft { color: var(--soft); font-size: 13px; }
.big { display: flex; flex-wrap: wrap; gap: 12px 44px; margin: 18px 0; } .big div { font-size: 13px; color: var(--soft); }
.big b { display: block; font-size: 27px; font-weight: 650; color: var(--ink); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; }
th, td { padding: 3px 12px 3px 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; } td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
i.c { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 7px; vertical-align: -1px; }
img { max-width: 100%; height: auto; display: block; background: #fff; border: 1px solid var(--line); border-radius: 6px; }
.warn { border-left: 4px solid #d08a1d; padding: 6px 12px; background: #fff8ea; margin: 6px 0; }
code { font: 13px ui-monospace, Menlo, Consolas, monospace; }
"""


def html_report(table: AnnData, summary: Summary, figures: Mapping[str, bytes], about: Mapping[str, str]) -> str:
    """The page as text.

    Parameters
    ----------
    table
        What `phenotype` or `adjust` made.
    summary
    figures
        Title -> PNG; shown in this order. Titles of the tissue begin with ``FOV``.
    about
        Facts of the run, e.g. the command.
    """
    of_tissue = {t: p for t, p in figures.items() if t.startswith("FOV")}
    others = {t: p for t, p in figures.items() if t not in of_tissue}
    parts = [
        f"<h1>Cell types</h1><p class='soft'>{_facts(about)}</p>",
        _headline(table, summary),
        "<h2>Types</h2>" + _types(summary),
        "".join(f"<h2>{html.escape(t)}</h2>{_image(t, p)}" for t, p in others.items()),
        "<h2>Do the FOVs agree?</h2>" + _batch(summary),
        "<h2>Metaclusters</h2>" + _metaclusters(summary),
        _reasons(table),
        _edits(table),
        "<h2>The rules</h2>" + _rules(table, summary),
        "".join(f"<h2>{html.escape(t)}</h2>{_image(t, p)}" for t, p in of_tissue.items()),
        _not_shown(table, len(of_tissue)),
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Cell types</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _not_shown(table: AnnData, shown: int) -> str:
    more = table.obs[FOV].nunique() - shown
    if not shown or not more:
        return ""
    return f"<p class='soft'>FOVs not shown here: {more}. All are painted in the folder <code>labels</code>.</p>"


def _facts(about: Mapping[str, str]) -> str:
    return "<br>".join(f"{html.escape(k)}: <code>{html.escape(v)}</code>" for k, v in about.items())


def _headline(table: AnnData, summary: Summary) -> str:
    numbers = [
        (f"{table.n_obs:,}", f"cells in {(n := table.obs[FOV].nunique())} FOV{'s' * (n > 1)}"),
        (f"{summary.assigned:.2f} %", f"have a type (the paper assigned {PAPER_ASSIGNED} % of its cells)"),
        (f"{100 - summary.assigned - summary.ambiguous:.2f} %", "unassigned"),
        (f"{summary.ambiguous:.2f} %", "ambiguous: markers of two lineages"),
        (f"{summary.contradictory:.2f} %", "have markers of two kinds of their type (CD3+ CD20+), and no finer one"),
        (f"{int(table.uns[PHENOTYPE]['resolved_by_neighbours']):,}", "settled by their neighbours (likely spill-over)"),
    ]
    return "<div class='big'>" + "".join(f"<div><b>{n}</b>{what}</div>" for n, what in numbers) + "</div>"


def _types(summary: Summary) -> str:
    rows = []
    for row in summary.types.to_dict("records"):
        swatch = "<i class='c' style='background:#{:02x}{:02x}{:02x}'></i>".format(*row["colour"])
        rows.append(
            [swatch + html.escape(str(row[CELL_TYPE])), f"{row['cells']:,}", f"{row['percent']:.2f}", _number(row["confidence"])]
        )
    return _table(["cell type", "cells", "% of all", "mean confidence"], rows, plain=1)


def _metaclusters(summary: Summary) -> str:
    rows = [
        [
            str(row[METACLUSTER]),
            html.escape(str(row[CELL_TYPE])),
            f"{row['cells']:,}",
            _number(row["stability"]),
            _number(row["agreement"]),
            html.escape(str(row["evidence"])),
        ]
        for row in summary.metaclusters.to_dict("records")
    ]
    note = (
        "<p class='soft'>Stability: how well the metacluster is found again when nodes are left out (1 = always). Agreement: "
        "share of its cells to which the rules alone give the proposed type.</p>"
    )
    return note + _table(["", "commonest type", "cells", "stability", "agreement", "evidence for a name"], rows, plain=(0, 1, 5))


def _batch(summary: Summary) -> str:
    said = summary.batch.warnings
    lines = "".join(f"<p class='warn'>{html.escape(w)}</p>" for w in said) or "<p>No FOV stands out.</p>"
    return lines + "<p class='soft'>Nothing is corrected: a FOV may differ because its tissue does.</p>"


def _reasons(table: AnnData, most: int = 12) -> str:
    rows = []
    types = table.obs[CELL_TYPE].astype(str).to_numpy()
    groups = {name: types == name for name in (AMBIGUOUS, UNASSIGNED)} | {"two kinds of a type": contradictory(table)}
    for name, where in groups.items():
        mine = table.obs[RULE_REASON][where].astype(str)
        general = mine.str.replace(r" from cell .*? away", " from a neighbour", regex=True)
        rows += [[name, f"{n:,}", html.escape(why)] for why, n in general.value_counts().head(most).items()]
    return "<h2>Why cells have no type, or no finer one</h2>" + (
        _table(["", "cells", "reason"], rows, plain=(0, 2)) if rows else "<p>All have one.</p>"
    )


def _edits(table: AnnData) -> str:
    about = table.uns[PHENOTYPE]
    edits: list[dict[str, Any]] = json.loads(str(about["edits"]))
    if not edits:
        return ""
    standing = set(np.asarray(about["standing"]).ravel().tolist())
    rows = []
    for i, edit in enumerate(edits):
        state = "" if edit["op"] in ("undo", "redo") else "stands" if i in standing else "undone"
        rows.append([str(i + 1), edit["op"], html.escape(json.dumps({k: v for k, v in edit.items() if k != "op"})), state])
    return "<h2>Edits by hand</h2>" + _table(["", "edit", "what", ""], rows, plain=(1, 2, 3))


def _rules(table: AnnData, summary: Summary) -> str:
    about = table.uns[PHENOTYPE]
    how = {
        "both": "The rules give each cell its type; where they leave it open, it takes the name of its metacluster if at least "
        "half of that metacluster's cells are of the type.",
        "rules": "The rules give each cell its type.",
        "clusters": "Each cell has the type of its metacluster, which the rules name.",
    }[str(about["by"])]
    same = float((table.obs[RULE_TYPE].astype(str) == table.obs[CELL_TYPE].astype(str)).mean())
    notes = "".join(f"<li>{html.escape(n)}</li>" for n in summary.notes)
    markers = html.escape(", ".join(map(str, table.uns[CLUSTERING]["markers"])))
    return (
        f"<p>{how} {100 * same:.1f} % of the cells have the type that the rules alone give. Rules: "
        f"<code>{html.escape(str(about['rules']))}</code>. Clustered on: {markers}.</p>"
        + (f"<ul class='soft'>{notes}</ul>" if notes else "")
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], plain: int | tuple[int, ...]) -> str:
    """A table; columns that are not ``plain`` (given as positions, or as how many of the first) hold numbers."""
    text = set(range(plain)) if isinstance(plain, int) else set(plain)
    body = "".join(
        "<tr>" + "".join(f"<td{'' if j in text else ' class=n'}>{c}</td>" for j, c in enumerate(row)) + "</tr>" for row in rows
    )
    return f"<div class='wide'><table><tr>{''.join(f'<th>{h}</th>' for h in head)}</tr>{body}</table></div>"


def _number(value: float) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:.2f}"


def _image(title: str, data: bytes) -> str:
    return f'<img alt="{html.escape(title)}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'
