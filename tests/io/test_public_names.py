"""Public names of `panimbus.io`."""

import subprocess
import sys

import pytest

import panimbus.io


@pytest.mark.parametrize("name", panimbus.io.__all__)
def test_each_name_is_there_and_documented(name):
    value = getattr(panimbus.io, name)
    assert value.__name__ == name
    assert value.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'read_nothing'"):
        panimbus.io.read_nothing  # noqa: B018


def test_importing_costs_next_to_nothing():
    code = "import sys, panimbus.io; print('tifffile' in sys.modules, 'zarr' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
