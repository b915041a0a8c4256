"""The page about a typed tissue."""

import html
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from panimbus.clustering.cluster import ClusterSettings
from panimbus.io.edits import Rename, Undo
from panimbus.phenotype import figures
from panimbus.phenotype.adjust import adjust
from panimbus.phenotype.assign import TypeSettings, assign_types
from panimbus.phenotype.report import html_report
from panimbus.phenotype.summary import Shares, summarise
from panimbus.render.palette import hex_colour

QUICK = TypeSettings(k=5, clustering=ClusterSettings(grid=(5, 5), epochs=6, runs=20, threads=1))
PNG = b"\x89PNG\r\n\x1a\n" + bytes(8) + (1300).to_bytes(4) + bytes(20)


@pytest.fixture
def typed(tissue):
    return assign_types(tissue.table, settings=QUICK)


def words(page):
    """The page's text, its cells separated by bars, each row a line."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    body = re.sub(r"</?(tr|p|h\d|div|li|ul)\b[^>]*>", "\n", body)
    return html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"<t[dh]\b[^>]*>", "|", body))).replace(
        "\xa0", " "
    )


def test_headline(typed):
    summary = replace(summarise(typed), shares=Shares(81.25, 10.5, 8.25, 3.14, 2.72, 1234, 56))
    page = html_report(typed, summary, {}, {"table": "scores.csv"})
    text = words(page)
    for part in (
        "1,234cells in 2 FOVs",
        "81.2 %typed to the finest",
        "10.5 %typed to an ancestor",
        "8.2 %no type",
        "3.1 %typed, but",
    ):
        assert part in text
    assert "56objects that are no cells" in text
    assert "<dt>table</dt><dd>scores.csv</dd>" in page
    assert "objects" not in words(html_report(typed, summarise(typed), {}, {}))


def test_types_have_their_colours_and_numbers(typed):
    summary = summarise(typed)
    page = html_report(typed, summary, {}, {})
    for row in summary.types.to_dict("records"):
        assert f'{hex_colour(row["colour"])}"></i>{row["cell_type"]}' in page
        assert (
            f"|{row['cell_type']}|{row['cells']:,}|{row['percent']:.2f}|{row['confidence']:.2f}|"
            in words(page)
        )


def test_contradictions(typed):
    rows = [("CD20", "CD3", 300, 0.266, 0.32, 0.735, True)] * 22 + [
        ("CD68", "CD3", 1, 0.0, 0.0, 0.0, False)
    ]
    summary = summarise(typed)
    summary = replace(
        summary,
        pairs=pd.DataFrame(rows, columns=summary.pairs.columns),
        warnings=("CD20 contradicts CD3 (26.6 %)",),
    )
    text = words(html_report(typed, summary, {}, {}))
    assert text.index("CD20 contradicts CD3 (26.6 %)") < text.index(
        "|CD20|CD3|300|26.60|32.00|73.50"
    )
    assert text.count("|CD20|CD3|") == 20
    assert "Pairs not shown here: 2." in text
    assert "|CD68|CD3|" not in text
    trust = summary.reliability.set_index("marker")["reliability"]
    assert all(f"{m} {r:.2f}" in text for m, r in trust.items())
    quiet = words(
        html_report(typed, replace(summary, pairs=summary.pairs[-1:], warnings=()), {}, {})
    )
    assert "No two markers that exclude one another" in quiet
    assert "not shown" not in quiet


def test_figures_stand_where_they_belong(typed):
    titles = [
        figures.TYPES,
        figures.METACLUSTERS,
        figures.PAIRS,
        figures.FOVS,
        figures.POSITIVE,
        "UMAP",
        "FOV fov1",
    ]
    page = html_report(typed, summarise(typed), dict.fromkeys(titles, PNG), {})
    at = [
        page.index(f"<h3>{t}</h3>")
        for t in (
            figures.TYPES,
            figures.PAIRS,
            figures.FOVS,
            figures.METACLUSTERS,
            "UMAP",
            "FOV fov1",
        )
    ]
    assert at == sorted(at)
    assert page.count("<img") == len(titles)
    assert 'width="866"' in page  # at 87 pixels to the inch: the figure has 130
    assert "FOVs not shown here: 1." in page
    assert "The tissue" not in html_report(typed, summarise(typed), {}, {})


def test_why_cells_have_no_type_or_no_finer_one(tissue):
    tissue.frame.loc[tissue.truth == "T cell", "CD3"] = 0.5
    typed = assign_types(tissue.table, settings=QUICK)
    typed.obs["cell_type"] = typed.obs["cell_type"].cat.add_categories(["immune cell"])
    typed.obs.iloc[:7, typed.obs.columns.get_loc("cell_type")] = "immune cell"
    typed.obs["reason"] = "CD45+; none is clear; contradicted by " + pd.Series(
        np.arange(typed.n_obs), typed.obs_names
    ).astype(str)
    text = words(html_report(typed, summarise(typed_again(typed)), {}, {}))
    assert "|immune cell|7|CD45+; none is clear\n" in text
    assert (
        f"|unassigned|{(typed.obs['cell_type'] == 'unassigned').sum()}|CD45+; none is clear\n"
        in text
    )


def typed_again(typed):
    """With a colour for each of its types."""
    typed.uns["cell_type_colors"] = ["#101010"] * len(typed.obs["cell_type"].cat.categories)
    return typed


@pytest.mark.parametrize("by", ["types", "clusters"])
def test_rules(tissue, by):
    typed = assign_types(
        tissue.table, settings=QUICK, by=by, thresholds={"CD3": 0.7}, without=["DAPI"]
    )
    text = words(html_report(typed, summarise(typed), {}, {}))
    assert f"--by {by}: " in text
    assert "Positive from: CD3 0.7; others 0.5." in text
    assert "Markers left out: DAPI." in text
    assert "plasma cell cannot be told: the panel lacks CD138" in text
    plain = assign_types(tissue.table, settings=QUICK)
    assert "Positive from 0.5." in words(html_report(plain, summarise(plain), {}, {}))


def test_edits(typed):
    edits = [
        Rename(op="rename", metacluster=1, name="a <b> & c"),
        Rename(op="rename", metacluster=2, name="x"),
        Undo(op="undo"),
    ]
    out = adjust(typed, edits)
    page = html_report(out, summarise(out), {}, {})
    shown = re.findall(r"<li><code>(.*?)</code>(.*?)</li>", page)
    assert [json.loads(html.unescape(e))["op"] for e, _ in shown] == ["rename", "rename", "undo"]
    assert [state for _, state in shown] == ["", " (undone)", ""]
    assert "Edits by hand" not in html_report(typed, summarise(typed), {}, {})


def test_nothing_of_the_data_is_markup(tissue):
    evil = "<script>alert('1')</script>"
    tissue.frame = tissue.frame.rename(columns={"DAPI": evil}).replace({"fov": {"fov1": evil}})
    tissue.save()
    typed = assign_types(
        tissue.table, settings=replace(QUICK, markers=("CD3", "CD20", evil)), thresholds={evil: 0.4}
    )
    out = adjust(typed, [Rename(op="rename", metacluster=1, name=evil)])
    summary = summarise(out)
    pairs = pd.DataFrame([(evil, "CD3", 300, 0.1, 0.1, 0.1, True)], columns=summary.pairs.columns)
    trust = pd.DataFrame({"marker": [evil], "reliability": [0.5]})
    summary = replace(summary, pairs=pairs, reliability=trust, warnings=(evil,), notes=(evil,))
    summary = replace(summary, batch=replace(summary.batch, warnings=(evil,)))
    out.obs["reason"] = evil
    page = html_report(out, summary, {f"FOV {evil}": PNG, f"x{evil}": PNG}, {evil: evil})
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 14
    assert "://" not in page
