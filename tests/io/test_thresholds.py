"""Thresholds as text and as a file."""

import pytest

from panimbus.core.errors import ChannelError, InputError
from panimbus.io.assignments import parse_thresholds

PANEL = ("CD20", "CD4", "HLA-DR, DP", "a=b")


@pytest.fixture
def table(tmp_path):
    """``table(text)``: path of a file with that text."""

    def write(text, encoding="utf-8"):
        path = tmp_path / "thresholds.csv"
        path.write_bytes(text.encode(encoding))
        return str(path)

    return write


def test_text():
    assert parse_thresholds("CD20=0.7,CD4=0.6", PANEL) == {"CD20": 0.7, "CD4": 0.6}
    assert list(parse_thresholds(" CD4 = .6 , CD20=7e-1, ", PANEL)) == ["CD20", "CD4"]
    assert parse_thresholds("a=b=0.25", PANEL) == {"a=b": 0.25}


@pytest.mark.parametrize(
    "text",
    [
        'marker,threshold\nCD20,0.7\n"HLA-DR, DP",0.6\n',
        '\ufeffMarker,note,Threshold\r\nCD20,clear,0.7\r\n\r\n"HLA-DR, DP",,0.6\r\n,,\r\n',
        "threshold;marker\n0,7;CD20\n0,6;HLA-DR, DP\n",
    ],
)
def test_file(text, table):
    assert parse_thresholds(table(text), PANEL) == {"CD20": 0.7, "HLA-DR, DP": 0.6}


def test_all_problems_in_one_message(table):
    text = "marker,threshold\nCD20,0.7\nCD20,0.6\nCD4,high\na=b,1\nCD20,\n"
    for given in (table(text), "CD20=0.7,CD20=0.6,CD4=high,a=b=1,CD20="):
        with pytest.raises(InputError) as raised:
            parse_thresholds(given, PANEL)
        for words in (
            "CD20: twice",
            "CD4: 'high' is not a number",
            "a=b: '1' is not above 0 and below 1",
            "CD20: '' is not a number",
        ):
            assert words in str(raised.value)
        assert not isinstance(raised.value, ChannelError)


def test_unknown_markers():
    with pytest.raises(ChannelError) as raised:
        parse_thresholds("cd20=0.7,CD44=0.3,Ki67=0.5,CD4=2", PANEL)
    told = str(raised.value)
    for words in (
        "'cd20' (did you mean 'CD20'?)",
        "'CD44' (did you mean 'CD4'?)",
        "no marker 'Ki67';",
        "available: CD20, CD4",
        "CD4: '2'",
    ):
        assert words in told


@pytest.mark.parametrize("value", ["0", "1", "-0.5", "1.5", "inf", "nan", "0.5 0.6", "0x1"])
def test_not_a_threshold(value):
    with pytest.raises(InputError, match="CD20: "):
        parse_thresholds(f"CD20={value}", PANEL)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "no thresholds"),
        (",", "no thresholds"),
        ("CD20", "cannot be read"),
        ("=0.5", "cannot be read"),
        ("0.7", "no such file"),  # as likely a file as a threshold without its marker
        ("thresholds.csv", "no such file"),
        ("CD20=0.5," * 2000, "CD20: twice"),
    ],
)
def test_not_thresholds(given, words):
    with pytest.raises(InputError, match=words):
        parse_thresholds(given, PANEL)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("CD20,0.7\n", "missing: marker, threshold"),
        ("marker,value\nCD20,0.7\n", "missing: threshold"),
    ],
)
def test_not_a_table_of_thresholds(text, says, table):
    with pytest.raises(InputError, match=says):
        parse_thresholds(table(text), PANEL)


def test_odd_files(table):
    with pytest.raises(InputError, match="no thresholds"):
        parse_thresholds(table("marker,threshold\n"), PANEL)
    assert parse_thresholds(table("marker;threshold\nβ;0,5\n", "utf-16"), ["β"]) == {"β": 0.5}
    assert parse_thresholds(table("marker;threshold\nµ;0,5\n", "latin-1"), ["µ"]) == {"µ": 0.5}


@pytest.mark.parametrize("text", ['""=0.5', '" "=0.5', "=0.5", 'CD3=0.5,""=0.6'])
def test_a_threshold_of_nothing(text):
    with pytest.raises(InputError, match="cannot be read"):
        parse_thresholds(text, ["CD3"])
