"""Names of markers that stand for channels."""

import pytest

from panimbus.core.errors import ChannelError
from panimbus.core.markers import channels_named


def test_any_name_of_a_marker_will_do():
    channels = ["CD8a", "PanCK", "CD3"]
    assert channels_named(["CD8", "pan-cytokeratin", "CD3"], channels) == ["CD8a", "PanCK", "CD3"]
    assert channels_named(["CD8a"], [*channels, "CD8"]) == ["CD8a"]
    with pytest.raises(ChannelError, match=r"is ambiguous(.|\n)*CD8a, CD8"):
        channels_named(["cd8"], [*channels, "CD8"])
    with pytest.raises(ChannelError, match=r"CD33 \(did you mean 'CD3'\?\)"):
        channels_named(["CD33"], channels)
