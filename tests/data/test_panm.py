"""Pan-M as its authors' scripts have it: all five datasets through the files that are ready."""

import json
import tomllib

import numpy as np
import pandas as pd
import pytest
from panm_layout import LAYOUTS, markers_of, write_panm

from panimbus.core.errors import InputError, MatchError, ReadError
from panimbus.data.dataset import read_dataset_file
from panimbus.data.datasets import build_dataset, label_datasets, plan_store
from panimbus.data.panm import FILES, missing_datasets, plan_panm
from panimbus.io.panm import DATASETS

COLON = "codex_colon"


@pytest.fixture(scope="module")
def panm(tmp_path_factory):
    """All five datasets, and what the tables say."""
    root = tmp_path_factory.mktemp("panm")
    return root, write_panm(root)


@pytest.fixture
def colon(tmp_path):
    return tmp_path, write_panm(tmp_path, [COLON])[COLON]


def labelled(root, **options):
    return {s.file.name: (s, source) for s, source in label_datasets(plan_store([root], **options))}


def test_files_are_ready_for_every_dataset():
    for name in DATASETS:
        file = read_dataset_file(FILES / f"{name}.toml")
        assert (file.name, file.mpp, file.silver.undecided) == (name, 0.5, [2])
        assert "20x is assumed" in file.note
        assert len(file.gold) == 3
    counts = {name: len(markers_of(name)) for name in DATASETS}
    assert list(counts.values()) == [36, 21, 23, 6, 6]  # as in the paper's figure 2


def test_labels_of_all_datasets_are_those_of_the_tables(panm):
    root, cells = panm
    made = labelled(root)
    assert list(made) == list(DATASETS)
    for name, (silver, source) in made.items():
        frame = cells[name].set_index(["fov", "cell_id"])
        assert [f.fov.fov_id for f in source.scanned.fovs]
        assert len(source.targets) == 4
        assert set(source.markers) == set(markers_of(name))
        for one in source.scanned.fovs:
            assert one.fov.mpp == 0.5
            expected = frame.loc[one.fov.fov_id].loc[one.cell_id, list(source.markers)].to_numpy()
            np.testing.assert_array_equal(
                source.targets[one.fov.fov_id], np.where(expected == 2, -1, expected)
            )
        assert {a.auc > 0.95 for a in silver.agreement} == {True}


def test_splits_are_the_authors(panm):
    root, _ = panm
    for name, (_, source) in labelled(root).items():
        fovs = LAYOUTS[name].fovs
        assert source.splits == dict(zip(fovs, ("test", "val", "train", "train"), strict=True))
        notes = " / ".join(source.notes)
        assert "20x is assumed, 0.5 µm per pixel" in notes
        assert "_split.json: 1 of its 5 FOVs are not there" in notes


def test_plan_has_the_settings_of_the_paper(panm):
    plan = plan_panm(panm[0])
    assert (plan.mpp, plan.percentile, plan.tile, plan.overlap) == (1.0, 99.99, 512, 16)
    assert plan_store([panm[0]], percentile=99.0, tile=64).percentile == 99.0


def test_store_of_two_datasets(panm, tmp_path):
    plan = plan_store([panm[0]], datasets=["vectra_colon", "mibi_decidua"])
    assert missing_datasets(plan) == ["codex_colon", "mibi_breast", "vectra_pancreas"]
    store = build_dataset(panm[0], tmp_path / "s", settings={"tile": 32})
    assert [d.name for d in store.info.datasets] == list(DATASETS)
    assert (store.info.percentile, store.info.mpp) == (99.99, 1.0)
    assert {len(store.rows(s)) > 0 for s in ("train", "val", "test")} == {True}


def test_archives_without_the_folders_samples_and_deepcell_output(panm, tmp_path):
    """As mibi_breast is unpacked from its archive."""
    write_panm(tmp_path, ["mibi_breast"])
    folder = tmp_path / "mibi_breast"
    (folder / "image_data" / "samples").rename(folder / "fovs_of_it")
    (folder / "image_data").rmdir()
    (folder / "fovs_of_it").rename(folder / "image_data")
    (folder / "segmentation_data" / "deepcell_output").rename(folder / "masks_of_it")
    (folder / "segmentation_data").rmdir()
    (folder / "masks_of_it").rename(folder / "segmentation_data")
    (_, source) = labelled(tmp_path)["mibi_breast"]
    assert source.splits["TONIC_TMA10_R1C1"] == "test"
    assert sorted(source.targets) == sorted(LAYOUTS["mibi_breast"].fovs)


def test_own_file_in_the_folder_is_used(colon):
    root, _ = colon
    text = (FILES / f"{COLON}.toml").read_text(encoding="utf-8")
    (root / f"{COLON}.toml").write_text(
        text.replace("mpp = 0.5", "mpp = 0.377").replace("20x is assumed", "measured")
    )
    silver, source = labelled(root)[COLON]
    assert silver.file.mpp == 0.377
    assert source.scanned.fovs[0].fov.mpp == 0.377
    assert source.notes[0].startswith("measured")


def test_without_the_authors_splits_it_is_said(tmp_path):
    write_panm(tmp_path, [COLON], splits=False)
    _, source = labelled(tmp_path)[COLON]
    assert "hickey_split.json is not there, so FOVs are split by a hash" in source.notes[0]
    assert source.splits["B010A_reg003_X01_Y01_Z01"] == "test"


def test_what_is_not_there_is_named(colon, tmp_path):
    root, _ = colon
    with pytest.raises(InputError, match=r"got: +mibi_breast\n +available: codex_colon\n +fix: .*"):
        plan_panm(root, [COLON, "mibi_breast"])
    with pytest.raises(InputError, match="no such dataset"):
        plan_panm(root, ["codex_lung"])
    with pytest.raises(ReadError, match="not the layout of Pan-M"):
        plan_panm(root / COLON / "raw_structured")
    with pytest.raises(InputError, match="chooses among"):
        plan_store([FILES / f"{COLON}.toml"], datasets=[COLON])
    (root / "gold" / COLON / "fovs").mkdir(parents=True)
    with pytest.raises(InputError, match="never trained on"):
        plan_panm(root / "gold")
    (root / COLON / "conversion_matrix.csv").unlink()
    with pytest.raises(ReadError, match="conversion_matrix"):
        labelled(root)


def test_a_fov_without_label_image(colon):
    root, _ = colon
    for path in (root / COLON / "masks" / "B012B").iterdir():
        path.unlink()
    with pytest.raises(MatchError, match="1 of 4 FOVs have no label image") as caught:
        labelled(root)
    assert "B012B_reg004_X01_Y01_Z01" in str(caught.value)
    double = root / COLON / "masks" / "B011B"
    (double / "B011B_reg002_again_labeled.ome.tif").write_bytes(
        next(double.glob("*_labeled*")).read_bytes()
    )
    with pytest.raises(MatchError, match="has 2 label images"):
        labelled(root)


def _change(root, change):
    path = root / COLON / "cell_table.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)


BAD = {
    "of FOVs that are not there": lambda t: pd.concat(
        [t, t.iloc[:2].assign(fov="B099A_reg001_X01_Y01_Z01")]
    ),
    "of cells that are not in the label images": lambda t: pd.concat(
        [t, t.iloc[:3].assign(labels=[900, 901, 902])]
    ),
    "without a cell id": lambda t: t.astype({"labels": object}).replace(
        {"labels": {7: "", 8: "x"}}
    ),
    "that are there twice": lambda t: pd.concat([t, t.iloc[:5]]),
    "that contradict each other": lambda t: pd.concat(
        [t, t.iloc[:1].assign(**{"Cell Type": "nobody"})]
    ),
}
COUNTS = (2, 3, 8, 5, 2)


@pytest.mark.parametrize(("reason", "count"), list(zip(BAD, COUNTS, strict=True)))
def test_bad_rows_are_an_error_or_counted(colon, reason, count):
    """The labels of all other cells are what they were."""
    root, cells = colon
    _change(root, BAD[reason])
    with pytest.raises(InputError, match=r"--skip-bad-rows|whole number"):
        labelled(root)
    plan = plan_store([root])
    plan.datasets[0].changes["bad_rows"] = "leave out"
    ((_, source),) = label_datasets(plan)
    assert f"bad rows of cells left out: {count:,} {reason}" in source.notes
    frame = cells.set_index(["fov", "cell_id"])
    lost = 0
    for one in source.scanned.fovs:
        target = source.targets[one.fov.fov_id]
        expected = frame.loc[one.fov.fov_id].loc[one.cell_id, list(source.markers)].to_numpy()
        left_out = (target == -1).all(axis=1)
        lost += int(left_out.sum())
        np.testing.assert_array_equal(
            target[~left_out], np.where(expected == 2, -1, expected)[~left_out]
        )
    assert lost == {"without a cell id": 8, "that contradict each other": 1}.get(reason, 0)


def test_bad_labels_are_undefined_and_counted(tmp_path):
    write_panm(tmp_path, ["vectra_colon"])
    path = tmp_path / "vectra_colon" / "cell_table.csv"
    table = pd.read_csv(path).astype({"CD3_gt": object})
    table.loc[3, "CD3_gt"], table.loc[4, "CD3_gt"] = 7, "yes"
    table.to_csv(path, index=False)
    with pytest.raises(InputError, match="CD3_gt"):
        labelled(tmp_path)
    plan = plan_store([tmp_path])
    plan.datasets[0].changes["bad_rows"] = "leave out"
    ((_, source),) = label_datasets(plan)
    assert "bad rows of labels left out: 2 with a label that is none" in source.notes
    first = source.targets[LAYOUTS["vectra_colon"].fovs[0]]
    assert first[[3, 4], source.markers.index("CD3")].tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ("[1, 2]", "no file of splits"),
        ('{"train": "a"}', "no file of splits"),
        ('{"dev": ["a"]}', "no such name"),
        ('{"train": ["a"], "test": ["a"]}', "in several splits"),
        ("{", "not JSON"),
    ],
)
def test_bad_splits(colon, data, match):
    root, _ = colon
    (root / "configs" / "hickey_split.json").write_text(data)
    with pytest.raises((InputError, ReadError), match=match):
        labelled(root)


def test_fovs_that_no_split_names(colon):
    root, _ = colon
    fovs = LAYOUTS[COLON].fovs
    (root / "configs" / "hickey_split.json").write_text(json.dumps({"validation": [fovs[1]]}))
    _, source = labelled(root)[COLON]
    assert source.splits[fovs[1]] == "val"
    assert "hickey_split.json does not name 3 of 4 FOVs" in " ".join(source.notes)


def test_the_files_are_toml_of_the_documented_keys():
    for path in FILES.glob("*.toml"):
        assert set(tomllib.loads(path.read_text(encoding="utf-8"))) <= {
            "name", "tissue", "mpp", "note", "images", "labels", "missing", "gold", "cells",
            "silver",
        }  # fmt: skip
