"""Simulated tissue: deterministic, truth that agrees with the pixels, and confounders that raise
what they should."""

from dataclasses import replace

import numpy as np
import pytest

from panimbus.simulate import (
    CELL_TYPES,
    Optics,
    StainMarker,
    draw_marker,
    draw_optics,
    simulate_tissue,
)
from panimbus.simulate.instruments import PIXEL_SIZE, draw_hard_optics
from panimbus.simulate.layout import REGIONS, make_layout
from panimbus.simulate.optics import (
    COUNTING,
    FLUORESCENCE,
    PLATFORMS,
    detect,
    expected_signal,
    grey_step,
)
from panimbus.simulate.stain import PATTERNS, pattern_map, stain
from panimbus.simulate.tissue import draw_panel, render_channel, render_tissue, simulate_dataset
from panimbus.simulate.truth import NEGATIVE, POSITIVE, UNCERTAIN, overlap_with_cells


@pytest.fixture(scope="module")
def layout():
    composition = np.full((len(REGIONS), 2), 0.5)
    return make_layout(
        (180, 180),
        0.5,
        np.random.default_rng(1),
        composition=composition,
        kinds=("mixed",),
        clustering=0,
    )


PLAIN = StainMarker("m", (1.0, 0.0), (1.0, 0.0), "membrane", spread=0.2)


def cell_means(tissue):
    area = np.bincount(tissue.labels.ravel())
    return np.stack(
        [
            np.bincount(tissue.labels.ravel(), p.ravel(), len(area))[1:] / area[1:]
            for p in tissue.image
        ],
        1,
    )


@pytest.mark.parametrize("platform", PLATFORMS)
def test_same_seed_same_tissue(platform):
    a, b = (simulate_tissue((96, 96), panel=3, seed=5, platform=platform) for _ in range(2))
    np.testing.assert_array_equal(a.image, b.image)
    np.testing.assert_array_equal(a.labels, b.labels)
    np.testing.assert_array_equal(a.truth, b.truth)
    assert not np.array_equal(
        a.image, simulate_tissue((96, 96), panel=3, seed=6, platform=platform).image
    )


@pytest.mark.parametrize(("platform", "mpp"), [("codex", 0.5), ("mibi", 0.5), ("imc", 1.0)])
def test_shapes_and_types(platform, mpp):
    t = simulate_tissue((90, 100), mpp, seed=2, platform=platform)
    m = int(t.labels.max())
    assert t.image.shape == (len(t.channels), 90, 100)
    assert t.image.dtype == (np.uint8 if platform == "codex" else np.uint16)
    assert t.labels.shape == (90, 100)
    assert t.labels.dtype == np.uint32
    assert t.truth.shape == (m, len(t.channels))
    assert len(t.cell_types) == m
    assert set(t.cell_types) <= {*CELL_TYPES, "none"}
    assert set(np.unique(t.truth)) <= {-1, 0, 1}
    assert len(t.markers) == len(t.optics) == len(t.channels)


@pytest.mark.parametrize("platform", ["codex", "mibi", "imc"])
def test_positive_cells_are_brighter(platform):
    t = simulate_tissue((200, 200), seed=3, platform=platform, observation="exact", errors=0)
    means = cell_means(t)
    for k, name in enumerate(t.channels):
        p, n = t.truth[:, k] == POSITIVE, t.truth[:, k] == NEGATIVE
        if p.sum() > 5 and n.sum() > 5:
            assert np.median(means[p, k]) > 1.3 * np.median(means[n, k]), name


def test_types_explain_the_truth_of_the_named_panel():
    t = simulate_tissue((220, 220), seed=4, platform="codex", observation="exact", errors=0)
    types = np.array(t.cell_types)
    cd20 = t.truth[:, t.channels.index("CD20")]
    assert set(types[cd20 == POSITIVE]) == {"B cell"}
    dapi = t.truth[:, t.channels.index("DAPI")]
    assert (dapi == POSITIVE).mean() > 0.7


def test_nothing_is_positive_in_a_channel_nobody_carries():
    nobody = StainMarker("none", (0.0,) * 8, (0.0,) * 8, background=0.2, haze=0.2)
    t = simulate_tissue((160, 160), panel=[nobody], seed=0, platform="codex")
    assert not (t.truth == POSITIVE).any()
    assert t.image.any()


@pytest.mark.parametrize(
    "confounder", [{"baseline": 0.3}, {"haze": 0.4}, {"background": 0.3}, {"crosstalk": (0.0, 0.4)}]
)
def test_non_specific_signal_raises_negatives(layout, confounder):
    clean = stain(layout, PLAIN, np.random.default_rng(0))
    dirty = stain(layout, replace(PLAIN, **confounder), np.random.default_rng(0))
    negative = ~clean.positive[layout.cells] & (layout.cells > 0)
    assert clean.base[negative].mean() == 0
    assert dirty.base[negative].mean() > 0.05


@pytest.mark.parametrize("confounder", [{"fibres": 1.0}, {"blobs": 2000.0}])
def test_stray_signal_belongs_to_no_cell(layout, confounder):
    clean = stain(layout, PLAIN, np.random.default_rng(0))
    dirty = stain(layout, replace(PLAIN, **confounder), np.random.default_rng(0))
    assert not clean.stray.any()
    assert dirty.stray.max() > 0.3
    np.testing.assert_array_equal(clean.positive, dirty.positive)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_stay_inside_cells(layout, pattern):
    where = pattern_map(layout, pattern, np.random.default_rng(0))
    assert where.min() >= 0
    assert where[layout.cells > 0].mean() > 0.02
    assert not where[layout.cells == 0].any()


def test_patterns_are_where_they_say(layout):
    rng = np.random.default_rng(0)
    nuclear = pattern_map(layout, "nuclear", rng)
    assert nuclear[layout.nuclei].mean() > 3 * nuclear[(layout.cells > 0) & ~layout.nuclei].mean()
    membrane = pattern_map(layout, "membrane", rng)
    assert (
        membrane[layout.cells > 0][layout.depth[layout.cells > 0] < 0.6].mean()
        > 1.5 * membrane[layout.core > 0.8].mean()
    )
    with pytest.raises(ValueError, match="granular"):
        pattern_map(layout, "sparkly", rng)


def test_blur_spills_over_to_neighbours(layout):
    s = stain(layout, PLAIN, np.random.default_rng(0))
    negative = ~s.positive[layout.cells] & (layout.cells > 0)
    spill = [
        expected_signal(s, Optics(blur=b), 0.5, np.random.default_rng(0))[1][negative].mean()
        for b in (0.2, 0.6, 1.2)
    ]
    assert spill[0] < spill[1] < spill[2]


def test_counts_are_poisson():
    rng = np.random.default_rng(0)
    counts = detect(np.full((300, 300), 0.5, np.float32), Optics("mibi", counts=2.0), 0.5, rng)
    assert counts.mean() == pytest.approx(1.0, rel=0.03)
    assert counts.var() == pytest.approx(1.0, rel=0.05)
    coarse = detect(np.full((300, 300), 0.5, np.float32), Optics("imc", counts=2.0), 1.0, rng)
    assert coarse.mean() == pytest.approx(4.0, rel=0.03)


def test_hot_pixels_denoising_and_grey_levels():
    rng = np.random.default_rng(0)
    flat = np.full((200, 200), 0.01, np.float32)
    bright = np.full((200, 200), 50, np.float32)
    plain, hot = (detect(bright, Optics("mibi", counts=1, hot=h), 0.5, rng) for h in (0.0, 1e-3))
    assert hot.max() > 1.5 * plain.max()
    lone = detect(flat, Optics("mibi", counts=1), 0.5, np.random.default_rng(1))
    kept = detect(flat, Optics("mibi", counts=1, denoise=True), 0.5, np.random.default_rng(1))
    assert kept.sum() < 0.7 * lone.sum()
    eight_bit = detect(
        np.linspace(0, 1, 40000, dtype=np.float32).reshape(200, 200),
        Optics("codex", levels=60),
        0.5,
        rng,
    )
    assert 55 <= np.percentile(eight_bit, 99.9) <= 65


def test_subtraction_clips(layout):
    s = stain(layout, replace(PLAIN, background=0.2), np.random.default_rng(0))
    total, specific = expected_signal(s, Optics(subtract=0.5), 0.5, np.random.default_rng(0))
    assert (total == 0).mean() > 0.3
    assert (specific <= total).all()


def test_too_few_counts_are_uncertain_not_negative(layout):
    owners = overlap_with_cells(layout.cells, layout.cells)
    rng = np.random.default_rng(0)
    _, dim, carried = render_channel(
        layout, layout.cells, owners, PLAIN, Optics("mibi", counts=0.003), rng=rng
    )
    _, bright, _ = render_channel(
        layout, layout.cells, owners, PLAIN, Optics("mibi", counts=5.0), rng=rng
    )
    assert (dim == POSITIVE).sum() < 0.05 * (bright == POSITIVE).sum()
    carriers = layout.types[1:] == 0
    assert not (dim[1:][carriers] == NEGATIVE).any()
    np.testing.assert_array_equal(carried[1:], carriers)


def test_a_label_on_two_unlike_cells_is_uncertain(layout):
    s = stain(layout, PLAIN, np.random.default_rng(0))
    right = (
        (layout.cells[:, 1:] != layout.cells[:, :-1])
        & (layout.cells[:, 1:] > 0)
        & (layout.cells[:, :-1] > 0)
    )
    merged = None
    area = np.bincount(layout.cells.ravel())
    for y, x in zip(*np.nonzero(right), strict=True):
        a, b = layout.cells[y, x], layout.cells[y, x + 1]
        if s.positive[a] != s.positive[b] and 0.75 < area[a] / area[b] < 1.3:
            merged = np.where(layout.cells == b, a, layout.cells)
            break
    assert merged is not None
    _, truth, _ = render_channel(
        layout,
        merged,
        overlap_with_cells(merged, layout.cells),
        PLAIN,
        Optics("codex", counts=500),
        rng=np.random.default_rng(0),
    )
    assert truth[a] == -1


def test_random_markers_go_from_none_to_all():
    rng = np.random.default_rng(0)
    carriers = [
        sum(v > 0 for v in draw_marker("m", 6, rng, platform).level)
        for platform in PLATFORMS
        for _ in range(60)
    ]
    assert min(carriers) == 0
    assert max(carriers) == 6
    assert np.median(carriers) < 4


def test_unknown_platform_lists_the_known():
    with pytest.raises(ValueError, match="codex"):
        simulate_tissue((64, 64), platform="xray")
    with pytest.raises(ValueError, match="mibi"):
        draw_optics("xray", np.random.default_rng(0))


def test_platforms_are_fluorescence_or_counts():
    assert sorted((*FLUORESCENCE, *COUNTING)) == sorted(PLATFORMS)
    assert set(PIXEL_SIZE) == set(PLATFORMS)
    for platform in PLATFORMS:
        t = simulate_tissue((80, 80), panel=2, seed=1, platform=platform)
        assert t.platform == platform
        assert t.image.any()
    named = {
        next(simulate_dataset(1, (64, 64), seed=s, platform="random")).platform for s in range(12)
    }
    assert named == {"codex", "mibi", "imc"}  # the named panel is drawn as ever


def test_a_pedestal_lifts_the_image_and_few_levels_coarsen_it():
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 1, 40000, dtype=np.float32).reshape(200, 200)
    camera = Optics("cycif", counts=500, pedestal=800, read_noise=4)
    image = detect(ramp, camera, 0.5, rng)
    dark = detect(np.zeros_like(ramp), camera, 0.5, rng)
    assert dark.mean() == pytest.approx(800, abs=1)
    assert dark.std() == pytest.approx(np.hypot(4, 1), rel=0.1)
    assert np.ptp(image.astype(float)) == pytest.approx(500, rel=0.3)
    coarse = Optics("codex", counts=500, levels=15)
    assert len(np.unique(detect(ramp, coarse, 0.5, rng))) <= 18
    assert grey_step(ramp, coarse, 0.5) == pytest.approx(1 / 15, rel=0.01)
    assert grey_step(ramp, camera, 0.5) == 0
    drawn = [draw_hard_optics("codex", rng) for _ in range(200)]
    assert 0.1 < np.mean([0 < o.levels <= 40 for o in drawn]) < 0.5
    assert 0.05 < np.mean([o.pedestal > 0 for o in drawn]) < 0.25


def test_lost_tissue_is_dark_and_registration_moves_the_image(layout):
    s = stain(layout, PLAIN, np.random.default_rng(0))
    plain, _ = expected_signal(s, Optics(blur=0.3), 0.5, np.random.default_rng(0))
    lost, _ = expected_signal(s, Optics(blur=0.3, loss=0.3), 0.5, np.random.default_rng(0))
    moved, _ = expected_signal(s, Optics(blur=0.3, shift=(1.0, -0.5)), 0.5, None)
    gone = lost < 0.5 * plain
    assert 0.1 < gone[plain > 0.1].mean() < 0.6
    np.testing.assert_array_equal(lost[~gone], plain[~gone])
    np.testing.assert_array_equal(moved[2:, :-1], plain[:-2, 1:])


def shown(layout, marker, optics=None, seed=0):
    """Truth and true positivity of each cell, segmented without errors."""
    owners = overlap_with_cells(layout.cells, layout.cells)
    optics = optics or Optics("codex", counts=500)
    rng = np.random.default_rng(seed)
    _, truth, carried = render_channel(layout, layout.cells, owners, marker, optics, rng=rng)
    return truth[1:], carried[1:]


FEW = replace(PLAIN, pattern="cytoplasm", fraction=(0.15, 0.0))


@pytest.mark.parametrize("where", ["cytoplasm", "nuclear", "whole"])
def test_cells_that_only_glow_are_negative_beside_brighter_ones(layout, where):
    s = stain(layout, replace(FEW, glow=0.5, glow_pattern=where), np.random.default_rng(0))
    negative = ~s.positive[layout.cells] & (layout.cells > 0)
    assert s.base[negative].mean() > 0.15
    assert not s.base[layout.cells == 0].any()
    truth, carried = shown(layout, replace(FEW, glow=0.5, glow_pattern=where, background=0.1))
    assert (truth[~carried] == NEGATIVE).mean() > 0.9
    assert (truth[carried] == POSITIVE).mean() > 0.6
    assert not (truth[carried] == NEGATIVE).any()
    assert not (truth[~carried] == POSITIVE).any()


def test_a_glow_without_brighter_cells_is_negative_only_on_a_background(layout):
    nobody = StainMarker("m", (0.0, 0.0), (0.0, 0.0), "cytoplasm", glow=0.5, glow_spread=0.2)
    hazy, _ = shown(layout, replace(nobody, background=0.7))
    dark, _ = shown(layout, replace(nobody, background=0.02))
    assert (hazy == NEGATIVE).mean() > 0.85
    assert (dark == UNCERTAIN).mean() > 0.8
    assert not (dark == POSITIVE).any()
    with pytest.raises(ValueError, match="nuclear"):
        stain(layout, replace(nobody, glow_pattern="pink"), np.random.default_rng(0))


@pytest.mark.parametrize("haze", [{"grains": 1.0, "grain_cells": (0.0, 1.0)}, {"mesh": 1.0}])
def test_grains_and_fibres_leave_cells_negative(layout, haze):
    clean = stain(layout, PLAIN, np.random.default_rng(0))
    dirty = stain(layout, replace(PLAIN, **haze), np.random.default_rng(0))
    np.testing.assert_array_equal(clean.own, dirty.own)
    assert dirty.base.max() > 0.5
    assert 0.02 < (dirty.base > 0.25).mean() < 0.5
    truth, carried = shown(layout, replace(PLAIN, **haze))
    assert (truth[~carried] == NEGATIVE).mean() > 0.9


def test_lent_rims_lie_on_neighbours_only_where_they_touch(layout):
    rims = replace(PLAIN, pattern="rim", overhang=0.8)
    s = stain(layout, rims, np.random.default_rng(0))
    positive = s.positive[layout.cells]
    assert not s.stray[positive].any()
    assert s.stray[(layout.cells > 0) & ~positive].max() > 0.3
    assert s.stray[(layout.core > 0.8) & ~positive].mean() < 0.02
    truth, carried = shown(layout, rims)
    assert (truth[~carried] == NEGATIVE).mean() > 0.9


def test_dim_cells_beside_bright_ones_are_positive_if_they_can_be_seen(layout):
    two = replace(PLAIN, level=(1.0, 0.25), fraction=(1.0, 0.5), spread=0.1)
    assert two.two_levels
    assert not PLAIN.two_levels
    dim = layout.types[1:] == 1
    truth, carried = shown(layout, two)
    assert (truth[dim & carried] == POSITIVE).mean() > 0.7
    assert (truth[dim & ~carried] == NEGATIVE).mean() > 0.9
    few, _ = shown(layout, two, Optics("codex", counts=500, levels=2))
    assert (few[dim & carried] == POSITIVE).mean() < 0.2


def test_residue_of_unmixing_copies_the_channel_before():
    bright = StainMarker("a", (1.0,) * 8, (0.3,) * 8, "whole", spread=0.1)
    nobody = StainMarker("b", (0.0,) * 8, (0.0,) * 8)
    pair = [bright, nobody]
    drawn = draw_panel(pair, "codex", np.random.default_rng(3))
    optics = tuple(Optics("opal", counts=500, residue=r) for r in (0.0, 0.2))
    drawn = replace(drawn, optics=optics)
    t = render_tissue(drawn, (160, 160), 0.5, rng=np.random.default_rng(0), errors=0)
    means = cell_means(t)
    assert np.corrcoef(means.T)[0, 1] > 0.95
    assert not (t.truth[:, 1] == POSITIVE).any()


def test_every_kind_of_hard_marker_is_drawn():
    rng = np.random.default_rng(0)
    markers = [draw_marker("m", 6, rng, "cycif", vessels=True) for _ in range(400)]
    assert {m.pattern for m in markers} == set(PATTERNS)
    for share in (
        [m.glow > 0 for m in markers],
        [m.grains > 0 for m in markers],
        [m.mesh > 0 for m in markers],
        [m.overhang > 0 for m in markers],
        [m.two_levels for m in markers],
    ):
        assert 0.03 < np.mean(share) < 0.25
    assert any(m.glow > 0 and max(m.level) == 0 for m in markers)
    assert any(m.grains > 0 and m.level[-1] == 1 and sum(m.level) == 1 for m in markers)
