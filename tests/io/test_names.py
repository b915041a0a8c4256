"""File names of FOVs: legal on every system, of bounded length, one a FOV."""

from hypothesis import given, settings
from hypothesis import strategies as st

from panimbus.io.names import safe_name, safe_names


def test_safe_name():
    assert safe_name("fov1") == "fov1"
    names = [
        "a/b",
        "a_b",
        "a b",
        "a:b",
        "..",
        ".",
        "",
        "µ",
        "fov1.",
        " fov1",
        "x" * 400,
        "x" * 401,
        "\udcff",
        "CON",
        "nul.1",
    ]
    safe = [safe_name(n) for n in names]
    assert len(set(safe)) == len(names)
    assert all(
        s and "/" not in s and ":" not in s and s.strip(".") == s and len(s) < 140 for s in safe
    )
    assert safe == [safe_name(n) for n in names]
    assert not {"CON", "nul.1"} & set(safe)


@settings(max_examples=500)
@given(st.lists(st.text(st.sampled_from("aA _-./é\udcff="), max_size=4), unique=True, max_size=12))
def test_one_file_a_name(names):
    files = safe_names([*names, *(safe_name(n) for n in names)])
    assert len({file.lower() for file in files.values()}) == len(files)
    assert all(
        file and file.isascii() and not set(file) & set('/\\:*?"<>| ') for file in files.values()
    )
    assert safe_names(sorted(files)) == files
