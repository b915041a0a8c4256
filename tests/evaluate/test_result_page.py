"""The page of a result: its pictures, its numbers, its size."""

import base64
import html
import re
import shutil
import subprocess
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest

from panimbus.core.errors import InputError
from panimbus.core.fov import Fov
from panimbus.core.table import FovScores, to_anndata
from panimbus.evaluate import result_page as pages
from panimbus.evaluate.marker_pictures import (
    NEGATIVE_CALL,
    MarkerCells,
    choose_window,
    draw_pictures,
    rows_by_fov,
)
from panimbus.evaluate.result_page import Subject, result_page, write_result_page
from panimbus.render import paint

CHANNELS = ("CD3", "a<b", "empty")


@pytest.fixture
def subject():
    """20 x 20 square cells of 10 px at 1 µm/px in two channels and a blank one; only the lower
    right has positives."""
    labels = (np.arange(200)[:, None] // 10 * 20 + np.arange(200)[None] // 10 + 1).astype(np.uint32)
    n = 400
    row, col = np.divmod(np.arange(n), 20)
    truth = np.zeros((n, 3), np.int8)
    truth[(row > 12) & (col > 12), :2] = 1
    truth[0] = -1
    score = np.where(truth == 1, 0.9, 0.1).astype(np.float32)
    score[399, 0], score[0, 1], score[5, 0] = 0.2, 0.8, 0.8
    score[:, 2] = 0
    image = np.concatenate(
        [(np.maximum(truth[:, :2].T, 0) * 50 + 10)[:, labels - 1], np.zeros((1, 200, 200))]
    ).astype(np.uint16)
    fov = Fov("f1", image, CHANNELS, labels, 1.0)
    xy = np.stack([col * 10 + 5.0, row * 10 + 5.0], 1)
    mean = np.stack([truth[:, k] * 50 + 10.0 for k in range(3)], 1).astype(np.float32)
    part = FovScores("f1", np.arange(1, n + 1), score, score * 0, mean, np.full(n, 100.0), xy)
    table = to_anndata(
        [part], CHANNELS,
        normaliser={"CD3": 60.0, "a<b": 60.0, "empty": np.nan}, provenance={},
        thresholds=dict.fromkeys(CHANNELS, 0.5),
    )  # fmt: skip
    return Subject(table, lambda _: fov, truth)


def test_the_window_shows_positive_cells_and_is_the_same_each_time(subject):
    (cells,) = rows_by_fov(subject.table)
    positive = subject.truth[:, 0] == 1
    merit, y, x = choose_window(cells.xy_um, positive, 100.0)
    assert merit > 0
    assert (y, x) == (115.0, 115.0)  # the middle of the positive cells is the window's
    assert choose_window(cells.xy_um, positive, 100.0) == (merit, y, x)
    corner = choose_window(np.array([[90.0, 5.0], [95.0, 5.0]]), np.array([True, False]), 60.0)
    assert corner[1:] == (0.0, 60.0)
    assert choose_window(np.zeros((0, 2)), np.zeros(0, bool), 100.0)[0] == 0


def picture(subject, k, *, truth=True, corner=(0.0, 0.0), side=(200.0, 200)):
    (cells,) = rows_by_fov(subject.table)
    score = np.asarray(subject.table.X[:, k])
    one = MarkerCells(
        CHANNELS[k], score, score >= 0.5, 60.0, subject.truth[:, k] if truth else None
    )
    return draw_pictures(subject.open_fov("f1"), cells, one, corner, side)


def test_calls_and_errors_are_outlined(subject):
    drawn = picture(subject, 0)
    assert drawn.image.shape == (200, 200)
    assert tuple(drawn.outlined[141, 150]) == paint.POSITIVE_EDGE  # two pixels wide
    assert tuple(drawn.outlined[10, 15]) == NEGATIVE_CALL  # one
    assert drawn.outlined[11, 15].tolist() == [drawn.image[11, 15]] * 3
    assert tuple(drawn.painted[5, 50]) == paint.FALSE_POSITIVE
    assert tuple(drawn.painted[190, 195]) == paint.FALSE_NEGATIVE
    assert tuple(drawn.painted[199, 199]) != paint.FALSE_NEGATIVE  # the image's edge is no boundary
    assert tuple(drawn.painted[2, 2]) == paint.UNKNOWN
    scores = picture(subject, 0, truth=False).painted
    assert tuple(scores[155, 155]) == tuple(paint.score_colours(np.array([0.9]))[0])


def test_a_window_is_moved_into_the_image_and_fitted(subject):
    near = picture(subject, 0, corner=(180.0, 500.0), side=(50.0, 200))
    assert near.image.shape == (200, 200)  # 50 px, four times
    assert near.width_um == 50
    assert tuple(near.painted[160, 180]) == paint.FALSE_NEGATIVE
    assert picture(subject, 0, side=(200.0, 80)).outlined.shape == (80, 80, 3)
    assert picture(subject, 0, side=(900.0, 200)).width_um == 200


def test_a_missing_score_has_no_outline(subject):
    subject.table.X[21, 0] = np.nan
    drawn = picture(subject, 0, truth=False)
    assert (
        drawn.outlined[10:20, 10:20].tolist()
        == np.repeat(drawn.image[10:20, 10:20, None], 3, 2).tolist()
    )
    assert tuple(drawn.painted[15, 15]) == paint.UNKNOWN


def words(page):
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page)))


def test_the_page(subject, tmp_path):
    about = {"title": "A <title>", "command": "panimbus predict --out 'x y'"}
    path = tmp_path / "new" / "report.html"
    write_result_page(path, subject, about)
    page = path.read_text(encoding="utf-8")
    text = words(page)
    assert "A &lt;title&gt;" in page
    assert "a&lt;b" in page
    assert "blank: nothing to score" in text
    assert not re.findall(r"(?:src|href)=\"(?!data:image/png;base64,|#)", page)
    assert page.count("<img") == 9
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    assert "49 of 400 cells" in text
    assert f"F1 {2 * 48 / (2 * 48 + 2):.2f} , Otsu 1.00" in text
    write_result_page(path, subject, about)
    assert path.read_text(encoding="utf-8") == page


def test_without_truth(subject):
    page = result_page(replace(subject, truth=None), {})
    assert "F1" not in re.sub(r"base64,[^\"]*", "", page)
    assert "nobody annotated these cells" in page
    assert "score of each cell" in page


def test_the_calls_of_the_page_are_those_of_the_table(subject):
    subject.table.layers["positive"][:, 0] = 0
    subject.table.layers["positive"][:7, 0] = 1  # whatever the scores say
    text = words(result_page(replace(subject, truth=None), {}))
    assert "7 of 400 cells" in text


def test_the_page_is_kept_small(subject, monkeypatch):
    monkeypatch.setattr(pages, "PICTURE_BYTES", 1)
    encoded = re.search(r"base64,([^\"]+)", result_page(subject, {})).group(1)
    assert max(imagecodecs.png_decode(base64.b64decode(encoded)).shape[:2]) <= pages.SIDES[-1][1]


def test_only_the_windows_are_read(subject):
    fov = subject.open_fov("f1")

    class Watched:
        shape, dtype, pixels = fov.image.shape, fov.image.dtype, 0

        def __getitem__(self, key):
            part = fov.image[key]
            Watched.pixels += part.size
            return part

    one = fov.with_(image=Watched())
    big = replace(subject, truth=None, open_fov=lambda _: one)
    result_page(big, {})
    assert 0 < Watched.pixels <= 3 * 200 * 200


def test_what_does_not_fit_is_refused(subject):
    with pytest.raises(InputError, match="truth does not fit"):
        replace(subject, truth=np.zeros((4, 3), np.int8))
    with pytest.raises(InputError, match="types are those of another result"):
        replace(subject, typed=subject.table[:10].copy())
    bare = subject.open_fov("f1").with_(labels=None)
    with pytest.raises(InputError, match="no label image"):
        result_page(replace(subject, open_fov=lambda _: bare), {})


def test_the_page_in_a_browser(subject, tmp_path):
    """Chromium lays the page out: every picture decodes, and nothing is wider than a narrow
    window."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine (.ci/run installs it)")
    page = tmp_path / "report.html"
    write_result_page(page, subject, {"title": "test", "dataset": "squares"})
    probe = (
        "<script>document.title = JSON.stringify({images: document.images.length, "
        "broken: [...document.images].filter(i => !i.complete || !i.naturalWidth).length, "
        "wide: document.documentElement.scrollWidth > window.innerWidth})</script></body>"
    )
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", probe), encoding="utf-8")
    flags = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
        " --disable-component-update"
    )
    process = subprocess.run(  # noqa: RUF100, S603
        [browser, *flags.split(), "--disable-sync", "--window-size=500,900",
         f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000", "--dump-dom",
         page.as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", process.stdout, re.DOTALL)
    assert title, process.stderr
    assert title.group(1).replace("&quot;", '"') == '{"images":9,"broken":0,"wide":false}'
