"""Masks that lie on their image, and masks that were moved, turned or belong to another image."""

import numpy as np
import pytest
from scipy import ndimage

from panimbus.core.errors import ReadError
from panimbus.core.fov import Fov
from panimbus.core.registration import correlate_mask, describe_misfit


def _tissue(seed, shape=(300, 300), n=500, channels=("DAPI", "CD3")):
    """Round nuclei at random places, stained, on a cloudy background; and another marker."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    yy, xx = np.mgrid[-4:5, -4:5]
    disc = yy**2 + xx**2 <= 14
    for k in range(1, n + 1):
        y, x = rng.integers(4, shape[0] - 5), rng.integers(4, shape[1] - 5)
        part = labels[y - 4 : y + 5, x - 4 : x + 5]
        part[disc & (part == 0)] = k
    cloud = ndimage.gaussian_filter(rng.random(shape), 20) * 2000
    stain = ndimage.gaussian_filter(300.0 * (labels > 0), 1) + cloud
    marker = 200.0 * (labels % 5 == 1) + cloud[::-1]
    image = np.stack([rng.poisson(stain), rng.poisson(marker)]).astype(np.uint16)
    return Fov("f", image[: len(channels)], channels, labels, 1.0)


@pytest.mark.parametrize("mpp", [1.0, 0.5])
def test_the_right_mask_fits(mpp):
    fov = _tissue(0)
    if mpp < 1:
        fov = Fov(
            "f",
            np.repeat(np.repeat(fov.image, 2, 1), 2, 2),
            fov.channels,
            np.repeat(np.repeat(fov.labels, 2, 0), 2, 1),
            mpp,
        )
    assert describe_misfit(fov) is None
    assert describe_misfit(fov.with_(image=fov.image.max() - fov.image)) is None, (
        "nuclei may be dark"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: np.roll(a, (10, 0), (0, 1)), "moved 10 µm up"),
        (lambda a: np.roll(a, (-6, 30), (0, 1)), "moved 6 µm down and 30 µm left"),
        (lambda a: a[::-1], "mirrored top to bottom"),
        (lambda a: a[:, ::-1], "mirrored left to right"),
        (lambda a: a[::-1, ::-1], "turned by 180°"),
        (lambda a: a.T, "rows and columns exchanged"),
        (np.rot90, "turned by"),
    ],
)
def test_a_mask_that_was_moved_or_turned(change, words):
    fov = _tissue(1)
    assert words in describe_misfit(fov.with_(labels=np.ascontiguousarray(change(fov.labels))))


def test_a_turned_mask_off_the_middle():
    """The window is where cells are: what lies there of a mirrored mask is at the mirrored place of
    the right one."""
    small = _tissue(2, (500, 500), 900)
    image, labels = np.zeros((2, 1500, 1400), np.uint16), np.zeros((1500, 1400), np.int32)
    image[:, 100:600, 120:620], labels[100:600, 120:620] = small.image, small.labels
    fov = Fov("f", image, small.channels, labels, 1.0)
    assert describe_misfit(fov) is None
    assert describe_misfit(fov.with_(labels=np.roll(labels, 20, 0))) is not None


def test_the_mask_of_another_image():
    one, other = _tissue(3), _tissue(4)
    assert "it may belong to another image" in describe_misfit(one.with_(labels=other.labels))


def test_no_word_where_little_can_be_said():
    one, other = _tissue(3), _tissue(4)
    wrong = one.with_(labels=other.labels)
    noise = np.random.default_rng(0).poisson(20, one.image.shape).astype(np.uint16)
    assert describe_misfit(wrong.with_(image=noise)) is None, "a stain without structure"
    assert describe_misfit(wrong.with_(image=np.zeros_like(noise))) is None, "a blank one"
    assert describe_misfit(wrong.with_(channels=("CD20", "CD3"))) is None, "none at all"
    assert (
        describe_misfit(wrong.with_(labels=np.where(other.labels < 40, other.labels, 0))) is None
    ), "few cells"
    assert describe_misfit(wrong.with_(labels=None)) is None
    assert describe_misfit(wrong.with_(mpp=None)) is None
    tiny = Fov("f", one.image[:, :50, :50], one.channels, other.labels[:50, :50], 1.0)
    assert describe_misfit(tiny) is None


def test_another_channel_may_vouch_for_the_mask():
    """Cells found by their membranes: the nuclear stain may be blind to them."""
    one, other = _tissue(5), _tissue(6)
    mixed = Fov("f", np.stack([one.image[0], other.image[1]]), ("DAPI", "CD3"), other.labels, 1.0)
    assert describe_misfit(mixed) is None


def test_pixels_that_cannot_be_read_are_another_message():
    class Broken:
        shape, dtype = (2, 300, 300), np.dtype(np.uint16)

        def __getitem__(self, key):
            raise ReadError("broken")

    assert describe_misfit(_tissue(0).with_(image=Broken())) is None


def test_fit_of_constants_is_zero():
    for inside, plane in (
        (np.ones((80, 80)), np.random.default_rng(0).random((80, 80))),
        (np.eye(80), np.zeros((80, 80))),
    ):
        one = correlate_mask(inside, plane)
        assert (one.in_place, one.elsewhere) == (0, 0)
        assert not one.good
        assert not one.moved


def test_real_masks_fit(shared_data):
    from panimbus.io import open_fovs

    (fov,) = open_fovs(
        shared_data / "spleen_imc" / "images" / "r12.ome.tiff",
        shared_data / "spleen_imc" / "labels",
    )
    assert describe_misfit(fov) is None
    labels = np.asarray(fov.labels[0 : fov.shape_yx[0], 0 : fov.shape_yx[1]])
    assert describe_misfit(fov.with_(labels=labels[::-1])) is not None
