"""Bad inputs, each made by a small function; see `attack`.

A file ``cases_<area>.py`` registers its cases::

    from attacks import attack

    @attack("is a folder")
    def images_is_a_pipe(folder):
        os.mkfifo(folder / "image.tif") return ["predict", folder / "image.tif", "--labels",
        folder.labels(), "--out", folder / "out"]

`test_attacks.py` runs them all.
"""

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # the cases import `attacks` from here

AREAS = sorted(path.stem for path in Path(__file__).parent.glob("cases_*.py"))
for area in AREAS:
    importlib.import_module(area)
