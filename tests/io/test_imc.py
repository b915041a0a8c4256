"""Imaging mass cytometry: pixels that are not there are never zeros in silence, and nothing is left
out without a word."""

import sys
from pathlib import Path

import numpy as np
import pytest

from panimbus.core.errors import MissingExtraError, ReadError
from panimbus.io import open_fovs

pytest.importorskip("readimc")
sys.path.insert(0, str(Path(__file__).parent))
from imc_files import Acquisition, imc_text, mcd, measured, records


@pytest.fixture
def image():
    """(C, Y, X) = (3, 6, 5) float32, every pixel different and with three decimals."""
    return (np.arange(90, dtype=np.float32).reshape(3, 6, 5) + np.float32(1.125)).astype(np.float32)


@pytest.fixture
def text_file(tmp_path, image):
    def write(change=lambda text: text, name="roi.txt"):
        (tmp_path / name).write_bytes(change(imc_text(image)).encode())
        return tmp_path / name

    return write


@pytest.fixture
def mcd_file(tmp_path):
    def write(*acquisitions, name="s.mcd", **options):
        (tmp_path / name).write_bytes(mcd(acquisitions, **options))
        return tmp_path / name

    return write


@pytest.mark.parametrize("end", [4, 20])
def test_a_cut_last_line_is_a_missing_pixel(text_file, image, end):
    (fov,) = open_fovs(text_file(lambda text: text[:-end]))
    image[:, -1, -1] = 0
    np.testing.assert_array_equal(fov.image[:], image)
    assert fov.notes == (
        "the text ends within a line (a copy that was stopped?): that pixel is 0",
        "1 of 30 pixels are not in the text, all at its end: they are 0",
    )


def test_a_last_line_without_its_end_is_whole(text_file, image):
    (fov,) = open_fovs(text_file(lambda text: text[:-1]))
    np.testing.assert_array_equal(fov.image[:], image)
    assert fov.notes == ()


def _lines(text, change):
    lines = text.splitlines(keepends=True)
    change(lines)
    return "".join(lines)


def test_repeated_lines_are_counted(text_file, image):
    (fov,) = open_fovs(
        text_file(lambda text: _lines(text, lambda lines: lines.insert(8, lines[7])))
    )
    assert fov.notes == (
        "1 lines are about a pixel that another line is about, too: the last one counts",
    )
    np.testing.assert_array_equal(fov.image[:], image)


def test_the_last_lines_may_be_missing(text_file, image):
    (fov,) = open_fovs(
        text_file(lambda text: _lines(text, lambda lines: lines.__delitem__(slice(-3, None))))
    )
    assert fov.notes == ("3 of 30 pixels are not in the text, all at its end: they are 0",)
    image[:, 5, 2:] = 0
    np.testing.assert_array_equal(fov.image[:], image)


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        (slice(8, 11), "3 pixels before the last one are not in the text"),
        (slice(8, 9), "1 pixel before the last one is not in the text"),
        (slice(6, 16), "10 pixels before the last one are"),
        (slice(1, 6), "5 pixels before the last one are"),
    ],
)
def test_missing_lines_before_the_last_are_an_error(text_file, lost, says):
    path = text_file(lambda text: _lines(text, lambda lines: lines.__delitem__(lost)))
    with pytest.raises(ReadError) as caught:
        open_fovs(path)
    at = lost.start - 1
    assert says in str(caught.value)
    assert f"the first that is missing: X {at % 5}, Y {at // 5}" in str(caught.value)
    assert "export the .txt again from the .mcd" in str(caught.value)


def test_a_stopped_run_of_an_mcd_lacks_no_pixel_before_the_last(mcd_file, image):
    scattered = records(image)[np.r_[0:10, 20:30]]
    (fov,) = open_fovs(mcd_file(measured(1, image, records=scattered)))
    with pytest.raises(ReadError, match="before the last one"):
        fov.image[:]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda lines: lines.__setitem__(5, lines[5][:12] + "\n"),
            "line 6 is not whole, and more lines follow",
        ),
        (
            lambda lines: lines.__setitem__(5, lines[5].replace("\t4\t0\t", "\tnan\t0\t")),
            "no position of a pixel",
        ),
        (
            lambda lines: lines.__setitem__(5, lines[5].replace("\t4\t0\t", "\t-4\t0\t")),
            "no position of a pixel",
        ),
        (
            lambda lines: lines.__setitem__(5, lines[5].replace("\t4\t0\t", "\t1e300\t0\t")),
            "no position of a pixel",
        ),
        (
            lambda lines: lines.__setitem__(5, lines[5].replace("\t4\t0\t", "\t90000\t0\t")),
            "before the last one are not in the text",
        ),
        (
            lambda lines: lines.__setitem__(5, lines[5].replace("\t4\t0\t", "\tx\t0\t")),
            "X or Y is no number in line 6",
        ),
        (lambda lines: lines.__delitem__(slice(1, None)), "has no pixels"),
        (
            lambda lines: lines.__setitem__(0, lines[0].replace("CD3(Er170Di)", "CD3")),
            "not called like a channel",
        ),
        (
            lambda lines: lines.__setitem__(0, lines[0].replace("\tZ\t", "\tW\t")),
            "not that of an IMC text",
        ),
    ],
)
def test_text_that_is_refused(text_file, change, says):
    with pytest.raises(ReadError, match=says):
        open_fovs(text_file(lambda text: _lines(text, change)))


@pytest.mark.parametrize("value", ["many", "", "inf"])
def test_a_value_that_is_no_number(text_file, value):
    (fov,) = open_fovs(text_file(lambda text: text.replace("5.125", value, 1)))
    with pytest.raises(
        ReadError, match=r"roi.txt: the text (cannot be parsed|has values that are no numbers)"
    ):
        fov.image[0]


def test_text_needs_no_extra(text_file, image, monkeypatch):
    monkeypatch.setitem(sys.modules, "readimc.mcd_parser", None)
    (fov,) = open_fovs(
        text_file(lambda text: "\ufeff" + text.replace("CD20", "µ").replace("\n", "\r\n"))
    )
    assert fov.channels == ("CD3", "µ", "DNA1")
    np.testing.assert_array_equal(fov.image[:, 1:3, 2], image[:, 1:3, 2])


def test_mcd_needs_its_extra(mcd_file, image, monkeypatch):
    monkeypatch.setitem(sys.modules, "readimc.mcd_parser", None)
    with pytest.raises(MissingExtraError, match=r"panimbus\[imc\]"):
        open_fovs(mcd_file(measured(1, image)))


def test_what_was_not_measured_is_left_out_with_a_note(mcd_file, image):
    planned = Acquisition(2, None, 5, 6, title="tumour")
    (fov,) = open_fovs(mcd_file(measured(1, image), planned))
    assert fov.notes == (
        "acquisition 1: ROI 1",
        "1 acquisition of the .mcd planned but not measured: 2 (tumour)",
    )
    np.testing.assert_array_equal(fov.image[:], image)
    stopped = measured(4, image, records=records(image)[:2], width=100, title="")
    (fov,) = open_fovs(mcd_file(measured(1, image), stopped))
    assert fov.notes[1] == "1 acquisition of the .mcd stopped after less than 1 % of the pixels: 4"
    with pytest.raises(
        ReadError,
        match=r"no acquisition that can be read(.|\n)*planned but not measured: 2 \(tumour\)",
    ):
        open_fovs(mcd_file(planned))


def test_acquisitions_that_share_data_are_left_out(mcd_file, image):
    twin = measured(2, image, records=None, start=32, end=32 + records(image).nbytes)
    with pytest.raises(ReadError, match=r"share their data with another: 1 \(ROI 1\), 2 \(ROI 2\)"):
        open_fovs(mcd_file(measured(1, image), twin))
    (fov,) = open_fovs(mcd_file(measured(1, image), twin, measured(3, image)))
    assert (fov.fov_id, fov.notes[1]) == (
        "s_003",
        (
            "2 acquisitions of the .mcd left out, since they share their data with another: 1 (ROI"
            " 1), 2 (ROI 2)"
        ),
    )
    within = measured(2, image, records=None, start=32 + 5 * 24, end=32 + 20 * 24)
    with pytest.raises(ReadError, match="share their data"):
        open_fovs(mcd_file(measured(1, image), within))


def test_the_position_of_the_last_byte_loses_no_record(mcd_file, image):
    (fov,) = open_fovs(mcd_file(measured(1, image, end=32 + records(image).nbytes - 1)))
    np.testing.assert_array_equal(fov.image[:], image)
    assert fov.notes == ("acquisition 1: ROI 1",)


def test_records_in_another_order(mcd_file, image):
    (fov,) = open_fovs(mcd_file(measured(1, image, records=records(image)[::-1])))
    np.testing.assert_array_equal(fov.image[1:, 2:5, 1:3], image[1:, 2:5, 1:3])


@pytest.mark.parametrize(("column", "value"), [(0, 77), (1, -1), (0, np.nan)])
def test_records_outside_of_the_area(mcd_file, image, column, value):
    table = records(image)
    table[7, column] = value
    (fov,) = open_fovs(mcd_file(measured(1, image, records=table)))
    with pytest.raises(ReadError, match="1 of 30 records"):
        fov.image[:]


def test_records_about_one_pixel(mcd_file, image):
    table = records(image)
    table[8, :2] = table[7, :2]
    (fov,) = open_fovs(mcd_file(measured(1, image, records=table)))
    with pytest.raises(ReadError, match="several records of an acquisition are about one pixel"):
        fov.image[:]


def test_the_laser_steps_tell_the_pixel_size(mcd_file, image):
    steps = "".join(
        f"<AblationDistanceBetweenShots{axis}>3</AblationDistanceBetweenShots{axis}>"
        for axis in "XY"
    )
    assert open_fovs(mcd_file(measured(1, image, more=steps)))[0].mpp == 3
    assert open_fovs(mcd_file(measured(1, image)))[0].mpp == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"width": 10**9}, "impossible size"),
        ({"width": -5}, "impossible size"),
        ({"height": "tall"}, "lacks metadata"),
        ({"end": 10**12}, "damaged or truncated"),
        ({"start": -40}, "damaged or truncated"),
        ({"width": 2}, "more records than pixels"),
    ],
)
def test_numbers_that_cannot_be(mcd_file, image, changes, says):
    with pytest.raises(ReadError, match=says):
        open_fovs(mcd_file(measured(1, image, **changes)))


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda xml: xml.replace("ROI 1", "a \x0b & <b>"), "the XML in the file cannot be parsed"),
        (lambda xml: xml.replace("</MCDSchema>", ""), "no description of its acquisitions"),
        (lambda xml: xml[: len(xml) // 2], "no description of its acquisitions"),
        (
            lambda xml: xml.replace("<ChannelName>X</ChannelName>", "<ChannelName>Q</ChannelName>"),
            "cannot be understood",
        ),
        (lambda xml: xml.replace("<ChannelName>Er(170)</ChannelName>", ""), "cannot be understood"),
        (lambda xml: xml.replace("<ID>1</ID>", "<ID>one</ID>"), "cannot be understood"),
        (
            lambda xml: xml.replace("</Slide>", "</Slide>" + "<Panorama/>" * 20_000),
            "lists more than can be",
        ),
    ],
)
def test_xml_that_is_not_understood(mcd_file, image, edit, says):
    path = mcd_file(measured(1, image), edit=edit)
    with pytest.raises(ReadError, match=says) as caught:
        open_fovs(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_equal_ids(mcd_file, image):
    with pytest.raises(ReadError, match="acquisitions have the same ID"):
        open_fovs(mcd_file(measured(1, image), measured(1, image)))


def test_texts_beside_an_mcd(mcd_file, text_file, image):
    mcd_file(measured(1, image), name="A.mcd")
    text_file(name="A_ROI_001_1.txt")
    folder = text_file(name="A2_ROI_001_1.txt").parent
    first, second = open_fovs(folder)
    assert (first.fov_id, second.fov_id) == ("A2_ROI_001_1", "A_001")
    assert first.notes == ("the text is a FOV of its own: no .mcd beside it begins its name",)
    assert second.notes[0] == "1 .txt of the .mcd are not used: A_ROI_001_1.txt"
