"""No input pixel changes an output pixel farther away than ``card.reach``, and the bound is not
wastefully wide."""

import pytest

torch = pytest.importorskip("torch")

CASES = [
    ("compact_unet", {"settings": {"widths": [4, 4, 4]}}),
    ("compact_unet", {"settings": {"widths": [4, 4], "unshuffle": 1, "blocks": 2}}),
    ("compact_unet", {"settings": {"widths": [4, 4], "unshuffle": 4, "blocks": 0}}),
    ("paper_unet", {"settings": {"depth": 3, "root": 2}}),
    ("paper_unet", {"settings": {"depth": 4, "root": 2}, "padding": "valid"}),
    ("paper_unet", {"settings": {"depth": 5, "root": 1}, "padding": "valid"}),
]


def farthest(net, card, place, side):
    """Largest distance (px, along an axis) from input pixel (place, place) to an output pixel that
    it changes."""
    stats = torch.full((1, len(card.stats)), 0.5, dtype=torch.float64)
    planes = torch.rand(
        1, len(card.planes), side, side, generator=torch.Generator().manual_seed(place)
    ).double()
    other = planes.clone()
    other[:, :, place, place] += 10.0
    with torch.inference_mode():
        changed = (net.logits(planes, stats) != net.logits(other, stats))[
            0, 0
        ].nonzero() + card.margin
    return int((changed - place).abs().max())


@pytest.mark.parametrize(("architecture", "changes"), CASES)
def test_influence_ends_at_reach(make_card, make_net, architecture, changes):
    card = make_card(architecture, **changes)
    net = make_net(card).double()
    for parameter in net.parameters():  # all positive: no ReLU closes, every path counts
        parameter.data.abs_()
    centre = (card.reach + card.margin) // card.stride * card.stride + card.stride
    side = 2 * centre + card.stride
    seen = [farthest(net, card, centre + shift, side) for shift in range(card.stride)]
    assert max(seen) <= card.reach
    assert max(seen) >= card.reach - card.stride


@pytest.mark.parametrize(("architecture", "changes"), CASES)
def test_tile_with_halo_equals_whole(make_card, make_net, architecture, changes):
    """Cutting at a multiple of the stride, ``reach`` away from the wanted pixels, changes
    nothing."""
    card = make_card(architecture, **changes)
    net = make_net(card).double()
    step = card.stride
    halo = -(-card.reach // step) * step
    side = 4 * halo
    planes = torch.rand(
        1, len(card.planes), side, side, generator=torch.Generator().manual_seed(1)
    ).double()
    stats = torch.full((1, len(card.stats)), 0.5, dtype=torch.float64)
    with torch.inference_mode():
        whole = net(planes, stats)
        tile = net(planes[:, :, halo:, : side - halo], stats)
    cut = card.margin
    assert tile.shape[-1] == side - halo - 2 * cut
    inner_whole = whole[:, :, 2 * halo - cut : 3 * halo - cut, halo - cut : 2 * halo - cut]
    inner_tile = tile[:, :, halo - cut : 2 * halo - cut, halo - cut : 2 * halo - cut]
    torch.testing.assert_close(inner_tile, inner_whole, rtol=0, atol=1e-12)


def test_valid_padding_gives_836_from_1024(make_card, make_net):
    card = make_card("paper_unet", settings={"depth": 5, "root": 1}, padding="valid")
    with torch.inference_mode():
        assert make_net(card)(torch.rand(1, 2, 1024, 256)).shape == (
            1,
            1,
            836,
            256 - 2 * card.margin,
        )
