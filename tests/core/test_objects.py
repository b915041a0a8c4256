"""What is no cell by its area."""

import numpy as np
import pytest

from panimbus.core.errors import InputError
from panimbus.core.objects import describe_object_shares, large_limit, object_kinds, object_shares


def test_usual_limits():
    area = [50.0] * 9 + [4.9, 5, 1000, 1000.1]
    assert object_kinds(area).tolist() == ["cell"] * 9 + ["sliver", "cell", "cell", "large"]


def test_large_cells_are_not_large_among_their_like():
    """Fat cells of 3,000 µm² beside each other; a vessel among them still is."""
    area = [3000.0] * 5 + [29_000, 31_000]
    assert object_kinds(area).tolist() == ["cell"] * 6 + ["large"]
    assert large_limit(area) == 30_000


@pytest.mark.parametrize(
    ("given", "kinds"),
    [((100, None), "ssc"), ((None, 100), "ccl"), ((60, 100), "scl"), ((0, 1e9), "ccc")],
)
def test_limits_that_are_given(given, kinds):
    names = {"s": "sliver", "c": "cell", "l": "large"}
    assert object_kinds([50, 70 if given == (60, 100) else 60, 500], *given).tolist() == [
        names[k] for k in kinds
    ]


def test_without_objects_or_areas():
    assert object_kinds([]).shape == (0,)
    assert object_kinds([np.nan, 50, 60, 2000]).tolist() == ["cell", "cell", "cell", "large"]
    assert large_limit([]) == 1000


@pytest.mark.parametrize(
    "limits",
    [(-1, None), (100, 50), (50, 50), (np.nan, None), (None, np.nan), (None, 0), (np.inf, None)],
)
def test_limits_that_leave_no_cell(limits):
    with pytest.raises(InputError, match="exclude all cells"):
        object_kinds([50], *limits)


def test_shares():
    shares = object_shares(["cell", "large", "sliver", "sliver"], [60, 936, 2, 2])
    assert shares == {
        "large": {"count": 1, "area_share": 0.936},
        "sliver": {"count": 2, "area_share": 0.004},
    }
    assert describe_object_shares(shares).endswith(
        "1 large (93.6 % of the labelled area), 2 slivers (0.4 %)"
    )
    assert "1 sliver (0.4 % of the labelled area)" in describe_object_shares(
        {"sliver": {"count": 1, "area_share": 0.004}}
    )
    assert object_shares(["cell"], [50]) == {}
    assert object_shares([], []) == {}
    assert not describe_object_shares({})


def test_ordinary_large_cells_of_real_tissue(shared_data):
    """Tumour cells, macrophages and neurons stay cells; the spleen's lumina do not."""
    import tifffile

    for folder, mpp in (
        ("lymphoma_codex", 0.5),
        ("dcis_mibi", 0.49),
        ("melc_lung", 0.45),
        ("brain_mibi", 0.49),
        ("hubmap_codex", 0.377),
    ):
        area = _areas(
            [tifffile.imread(path) for path in sorted((shared_data / folder / "labels").iterdir())],
            mpp,
        )
        assert not (object_kinds(area) == "large").any(), folder
    area = _areas(
        [
            tifffile.imread(path)
            for path in sorted((shared_data / "spleen_imc" / "labels").iterdir())
        ],
        1.0,
    )
    assert 100 < (object_kinds(area) == "large").sum() < 200


def _areas(images, mpp):
    return (
        np.concatenate([np.unique(image[image > 0], return_counts=True)[1] for image in images])
        * mpp**2
    )
