"""Tables of cell types from text, for tests."""

import tempfile
from pathlib import Path

from panimbus.phenotype.rules import read_rules


def parse_rules(text, name="own.csv"):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(text, encoding="utf-8")
        return read_rules(path)
