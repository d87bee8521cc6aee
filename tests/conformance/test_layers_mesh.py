"""Every public layer on eight devices: Explicit axes and `shard_map`, forward and backward, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from _layer_cases import ALL

SCRIPT = Path(__file__).parents[1] / "_on_mesh.py"
COLUMNS = ("explicit", "shards", "members")
FAST = ("dense", "conv", "layer_norm")


def run(column, cases=()):
    """What `_on_mesh.py` says of the cases, of all by default."""
    done = subprocess.run([sys.executable, SCRIPT, column, *cases], capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def found():
    """Column -> what is wrong with which case, each column run once."""
    return {}


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.slow
def test_a_few_are_equal_to_the_same_without_a_mesh(column):
    assert run(column, FAST) == dict.fromkeys(FAST, "")


@pytest.mark.parametrize("case", ALL)
@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.slow
def test_it_is_equal_to_the_same_without_a_mesh(column, case, found):
    if column not in found:
        found[column] = run(column)
    assert found[column][case] == "" or found[column][case].startswith("refused: ")
