"""What a channel is, and what it may be called."""

import numpy as np
import pytest

from panimbus.core import table
from panimbus.core.channel_types import (
    check_channel_types,
    find_counterstains,
    id_channels,
    resolve_channel_types,
)
from panimbus.core.counterstain import counterstain_correlation, reference_channels
from panimbus.core.errors import ChannelError, InputError
from panimbus.core.fov import Fov
from panimbus.core.reserved import is_reserved, legal_names, name_problems
from panimbus.io.tables import CELL_ALIASES, FOV_ALIASES


def test_every_column_of_the_tables_is_reserved():
    columns = [
        table.FOV,
        table.CELL,
        table.AREA,
        table.OBJECT,
        table.SOM_NODE,
        table.METACLUSTER,
        table.CELL_TYPE,
    ]
    columns += [table.CONFIDENCE, table.REASON, table.CONTRADICTION, table.MIXED, table.FAINT]
    columns += [
        table.CSV_FOV,
        table.CSV_LABEL,
        table.CSV_X,
        table.CSV_Y,
        *FOV_ALIASES,
        *CELL_ALIASES,
    ]
    columns += [
        "cell_size",
        "centroid-0",
        "centroid-1",
        "CellID",
        "X_centroid",
        "Y_centroid",
        "Area",
        "imageid",
    ]  # ark, scimap
    assert [c for c in columns if not is_reserved(c)] == []
    assert not any(
        map(is_reserved, ("CD3", "DAPI", "fov1", "area_um3", "Ki67", "PD-1", "C", "18S", "cells"))
    )


def test_names_are_made_legal():
    names, notes = legal_names(
        ["label", " CD3 ", None, "", "a\tb", "e\u0301", "x\udce9", "\ud800", "a/b", "=1+1", "µm"]
    )
    assert names == [
        "channel_label",
        "CD3",
        None,
        None,
        "a_b",
        "é",
        "xé",
        "\ufffd",
        "a/b",
        "=1+1",
        "µm",
    ]
    assert len(notes) == 4
    assert name_problems([n for n in names if n]) == []


@pytest.mark.parametrize("name", ["label", "FOV ID", "area_um2", " ", "a\nb", "x\udce9"])
def test_a_fov_refuses_names_that_no_table_takes(name):
    with pytest.raises(ChannelError, match="tables cannot store"):
        Fov("a", np.zeros((1, 4, 4)), (name,))


def test_types():
    declared = check_channel_types(
        {"DNA1": "Counterstain ", "DAPI": "marker", "B1": "blank"}, ["DNA1", "B1", "CD3", "DAPI"]
    )
    assert resolve_channel_types(["DNA1", "B1", "CD3", "DAPI", "Hoechst"], declared) == [
        "counterstain",
        "blank",
        "marker",
        "marker",
        "counterstain",
    ]
    assert find_counterstains(["NucX", "DAPI"], {"NucX": "counterstain", "DAPI": "marker"}) == [
        "NucX"
    ]


def test_unknown_channels_and_types_in_one_message():
    with pytest.raises(
        ChannelError,
        match=(
            r"(?s)no channel 'DAPI2' \(did you mean 'DAPI'\?\); CD3: 'blnk' is not a type \(did you"
            r" mean"
        ),
    ):
        check_channel_types({"DAPI2": "blank", "CD3": "blnk"}, ["DAPI", "CD3"])
    with pytest.raises(InputError, match="is not a type"):
        check_channel_types({"CD3": ""}, ["CD3"])


def test_declared_counterstains_count_instead_of_names():
    fovs = [
        Fov(
            "a",
            np.zeros((4, 5, 5)),
            ("CD3", "DAPI", "NucX", "CD4"),
            channel_types={"NucX": "counterstain", "DAPI": "blank"},
        )
    ]
    assert reference_channels(["CD3"], fovs, ["counterstain"]) == ("NucX",)
    mean = np.random.default_rng(0).random((50, 3)).astype(np.float32)
    assert counterstain_correlation(mean, ("CD3", "DAPI", "NucX"), ["NucX"])[2] == 1
    assert counterstain_correlation(mean, ("CD3", "DAPI", "NucX"), ["NucX"])[1] != 1


def test_channels_that_hold_the_ids():
    ids = np.arange(1, 41)
    mean = np.stack([ids, ids + 0.5, np.full(40, 7), np.where(ids > 38, 0, ids)], 1).astype(
        np.float32
    )
    assert id_channels(mean, ids, ["a", "b", "c", "d"]) == ["a", "d"]
    assert id_channels(mean[:4], ids[:4], ["a", "b", "c", "d"]) == []
    assert id_channels(np.full((40, 1), np.nan), ids, ["a"]) == []
