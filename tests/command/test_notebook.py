"""The notebook of the docs runs from its first cell to its last, and is the file that is there."""

import json
from itertools import zip_longest

import pytest

from notebook import CELLS, cell, notebook
from repository import ROOT

FILE = ROOT / "docs/own_pictures.ipynb"


def test_the_file_has_these_cells():
    there = json.loads(FILE.read_text())["cells"]
    for found, (kind, source) in zip_longest(there, CELLS):
        assert found["source"] == cell(kind, source)["source"]


@pytest.mark.slow
def test_it_runs(tmp_path):
    cells = notebook(tmp_path)["cells"]
    assert len(cells) == len(CELLS)
    assert (tmp_path / "similar/index.html").exists()
    assert (tmp_path / "model/config.json").exists()
