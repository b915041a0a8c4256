"""Warnings of one kind are one line."""

from panimbus.core.messages import group_messages


def test_thirteen_of_one_kind():
    lines = [f"channel 'c{k}': {k}.5 % of the pixels are saturated (at 255)" for k in range(1, 14)]
    assert group_messages(lines) == [
        (
            "13 channels (c1, c2, c3, c4, c5, c6, c7, c8, ... and 5 more): 1.5 to 13.5 % of the pixels"
            " are saturated (at 255)"
        )
    ]


def test_fovs_and_large_numbers():
    lines = [
        "FOV 'a': 12 of 1,300 ids have several separate pieces",
        "FOV 'b': 40 of 900 ids have several separate pieces",
    ]
    assert group_messages(lines) == [
        "2 FOVs (a, b): 12 to 40 of 900 to 1,300 ids have several separate pieces"
    ]


def test_channels_of_one_fov():
    lines = [f"FOV 'a', channel '{c}': {n} pixels are NaN" for c, n in (("x", 3), ("y", 3))]
    assert group_messages([*lines, "FOV 'b', channel 'x': 3 pixels are NaN"]) == [
        "FOV 'a', 2 channels (x, y): 3 pixels are NaN",
        "FOV 'b', channel 'x': 3 pixels are NaN",
    ]


def test_what_differs_stays_apart():
    lines = [
        "channel 'c' has exactly the pixels of 'a'",
        "channel 'd' has exactly the pixels of 'b'",
        "one normaliser",
        "one",
    ]
    assert group_messages(lines) == lines
    assert group_messages([]) == []
