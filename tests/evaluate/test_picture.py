"""The picture: colours, outlines, the chosen window, the files."""

import base64
import re
import shutil
import subprocess

import imagecodecs
import numpy as np
import pytest

from panimbus.core.errors import InputError
from panimbus.core.fov import Fov
from panimbus.core.table import FovScores, to_anndata
from panimbus.evaluate import page as picture_page
from panimbus.evaluate.page import contact_sheet, html_page, write_picture
from panimbus.evaluate.picture import Subject, choose_window, draw
from panimbus.render import paint


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
    fov = Fov("f1", image, ("CD3", "a<b", "empty"), labels, 1.0)
    xy = np.stack([col * 10 + 5.0, row * 10 + 5.0], 1)
    intensity = np.stack([truth[:, k] * 50 + 10.0 for k in range(3)], 1)
    return Subject(
        fov,
        fov.channels,
        np.arange(1, n + 1),
        xy,
        score,
        intensity,
        np.array([60, 60, np.nan]),
        0.5,
        truth,
    )


def test_window_holds_the_positives_and_is_the_same_each_time(subject):
    window = choose_window(subject, 100.0)
    y0, y1, x0, x1 = window
    assert (y1 - y0, x1 - x0) == (100, 100)
    assert y0 >= 50
    assert x0 >= 50
    assert choose_window(subject, 100.0) == window
    assert choose_window(subject, 500.0) == (0, 200, 0, 200)


def test_errors_are_outlined(subject):
    drawn = draw(subject, (0, 200, 0, 200), 200)
    panel = drawn.panels[0]
    assert tuple(panel.reference[5, 50]) == paint.FALSE_POSITIVE
    assert (
        tuple(panel.reference[199, 199]) != paint.FALSE_NEGATIVE
    )  # the image's own edge is no boundary
    assert tuple(panel.reference[190, 195]) == paint.FALSE_NEGATIVE
    assert tuple(panel.reference[2, 2]) == paint.UNKNOWN
    assert panel.quality.f1 == pytest.approx(2 * 48 / (2 * 48 + 2))
    assert panel.baseline.f1 == 1
    assert panel.share == pytest.approx(49 / 400)
    assert drawn.panels[2].blank


def test_shrunk_picture_keeps_the_aspect(subject):
    drawn = draw(subject, (0, 200, 50, 150), 100)
    assert drawn.panels[0].image.shape == (100, 50)
    assert drawn.panels[0].score.shape == (100, 50, 3)
    assert drawn.width_um == 100


def test_files(subject, tmp_path):
    about = {"title": "A <title>", "command": "panimbus demo --out 'x y'"}
    page_path, sheet_path = write_picture(subject, tmp_path, about)
    page = page_path.read_text(encoding="utf-8")
    assert "A &lt;title&gt;" in page
    assert "a&lt;b" in page
    assert "blank: nothing to score" in page
    assert not re.findall(r"(?:src|href)=\"(?!data:image/png;base64,)", page)
    assert page.count("<img") == 9
    assert sorted(p.name for p in tmp_path.iterdir()) == ["picture.html", "picture.png"]
    sheet = imagecodecs.imread(str(sheet_path))
    assert sheet.ndim == 3
    write_picture(subject, tmp_path, about)
    assert page_path.read_text(encoding="utf-8") == page


def test_without_truth(subject, tmp_path):
    plain = Subject(
        **{**{f: getattr(subject, f) for f in subject.__dataclass_fields__}, "truth": None}
    )
    drawn = draw(plain, (0, 200, 0, 200), 100)
    page = html_page(drawn, {}, 0.5)
    assert "mean intensity" in page
    assert "F1" not in page
    assert contact_sheet(drawn, {}).dtype == np.uint8


def test_page_is_kept_small(subject, tmp_path, monkeypatch):
    monkeypatch.setattr(picture_page, "PAGE_BYTES", 1)
    page, _ = write_picture(subject, tmp_path, {})
    encoded = re.search(r"base64,([^\"]+)", page.read_text(encoding="utf-8")).group(1)
    first = imagecodecs.png_decode(base64.b64decode(encoded))
    assert max(first.shape) == picture_page.SIDES[-1][1]


def test_no_cells(tmp_path):
    fov = Fov("f", np.ones((1, 30, 30), np.uint8), ("a",), np.zeros((30, 30), np.uint8), 1.0)
    none = np.zeros((0, 1))
    nobody = (("a",), np.zeros(0, int), np.zeros((0, 2)), none, none, np.ones(1), 0.5)
    empty = Subject(fov, *nobody, none.astype(np.int8))
    write_picture(empty, tmp_path, {})
    with pytest.raises(InputError, match="no label image"):
        draw(Subject(fov.with_(labels=None), *nobody), (0, 9, 0, 9), 9)


def test_from_a_cell_table(subject):
    def part(name, n):
        zeros = np.zeros((n, 3), np.float32)
        return FovScores(
            name, np.arange(1, n + 1), zeros, zeros, zeros, np.ones(n), np.zeros((n, 2))
        )

    table = to_anndata(
        [part("other", 4), part("f1", 2)], subject.channels,
        normaliser=dict.fromkeys(subject.channels, 1.0),
        provenance={"threshold": 0.4},
    )  # fmt: skip
    one = Subject.from_table(table, subject.fov)
    assert (len(one.cell_id), one.threshold) == (2, 0.4)
    with pytest.raises(InputError, match="does not fit"):
        Subject.from_table(table, subject.fov, np.zeros((4, 3), np.int8))


def test_the_page_in_a_browser(subject, tmp_path):
    """Chromium lays the page out: every picture decodes, and nothing is wider than a narrow
    window."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine (.ci/run installs it)")
    page, _ = write_picture(subject, tmp_path, {"title": "test", "dataset": "squares"})
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
