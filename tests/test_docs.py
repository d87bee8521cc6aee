"""The recipes of docs/ are run as they stand."""

import csv
import json
import re
from pathlib import Path

import jax
import pytest

HOOKS = Path(__file__).parents[1] / "docs" / "hooks.md"
BLOCKS = re.findall(r"```python\n(.*?)```", HOOKS.read_text(), re.DOTALL)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_recipes_of_hooks_log_every_epoch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for block in BLOCKS:
            exec(block, names)
    rows = [json.loads(line) for line in Path("run.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert rows[-1]["valid/loss"] == pytest.approx(float(names["run"].history["valid"]["loss"][-1]))
    with open("run.csv", newline="") as file:
        assert len(list(csv.reader(file))) == 6
    assert len(list(Path().glob("epoch-*.png"))) == 5
    assert list(Path("board").glob("events*"))
