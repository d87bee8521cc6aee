"""Every public layer on eight devices: Explicit axes and `shard_map`, forward and backward, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from _layer_cases import ALL

SCRIPT = Path(__file__).parents[1] / "_on_mesh.py"
COLUMNS = ("explicit", "shards", "members")


def run(column, cases=()):
    """What `_on_mesh.py` says of the cases, of all by default."""
    done = subprocess.run([sys.executable, SCRIPT, column, *cases], capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("rows", ["first", pytest.param("further", marks=pytest.mark.nightly)])  # as in `_tiers.py`
@pytest.mark.slow
def test_every_layer_is_equal_to_the_same_without_a_mesh(column, rows):
    cases = {case for case in ALL if (" " in case) == (rows == "further")}
    found = run(column, cases)
    assert found.keys() == cases
    assert {case: text for case, text in found.items() if text and not text.startswith("refused: ")} == {}
