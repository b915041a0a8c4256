"""What the results' files cannot hold is refused before a pixel is read."""

import pytest

from panimbus.core.errors import InputError
from panimbus.infer import predict as module


class Unread:
    """An image that must not be read."""

    def __init__(self, image):
        self.shape, self.dtype = image.shape, image.dtype

    def __getitem__(self, key):
        raise AssertionError


@pytest.mark.parametrize(
    ("change", "what"), [({"fov_id": "a\udcff"}, "FOVs"), ({"fov_id": "\x07"}, "FOVs")]
)
def test_names_that_are_no_text(fov, run, model, tmp_path, change, what):
    f = fov()
    with pytest.raises(InputError, match=f"Names of {what} cannot be written"):
        run(f.with_(image=Unread(f.image), **change), model("plain"), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_room_for_the_scores(fov, run, model, tmp_path, monkeypatch):
    """Asked after the first pass, when the number of cells is known, for what is not there yet."""
    asked = []
    monkeypatch.setattr(module, "check_folder", lambda _out, need=0, _what="": asked.append(need))
    f = fov()
    cells = run(f, model("plain"), out=tmp_path).n_obs
    run(f, model("plain"), out=tmp_path)
    assert asked == [0, cells * 2 * 4 * 6, 0, 0]
    asked.clear()
    run(fov(fov_id="g"), model("plain"), out=tmp_path, maps=True)
    assert asked[1] > cells * 2 * 4 * 6
