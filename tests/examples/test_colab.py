"""The notebook for Colab is its script, and runs cell by cell on eight virtual devices."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.notebook import notebook

EXAMPLES = Path(__file__).parents[2] / "examples"
RUN = """
import json, sys
cells = json.load(open(sys.argv[1]))["cells"]
names = {"__name__": "__main__"}
for cell in cells:
    if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
"""


def test_the_notebook_is_the_script():
    stored = (EXAMPLES / "colab.ipynb").read_text()
    assert stored == notebook((EXAMPLES / "colab.py").read_text()), "run python tools/notebook.py"
    cells = json.loads(stored)["cells"]
    assert [cell["cell_type"] for cell in cells] == ["markdown"] + ["markdown", "code"] * 5
    assert all(cell["source"] for cell in cells)


@pytest.mark.slow
def test_its_cells_run_on_eight_devices(tmp_path):
    command = [sys.executable, "-W", "error", "-c", RUN, EXAMPLES / "colab.ipynb", "--short"]
    environment = os.environ | {"JAXNN_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(EXAMPLES.parent)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"no accelerator: 8 devices, cpu, cpu; jax [\d.]+", lines[0])
    assert re.fullmatch(r"first step [\d.]+ s with compilation, the others [\d.]+ ms; accuracy \d\d\.\d%", lines[1])
    assert sum(line.startswith("rate 0.0") for line in lines) == 8
    assert re.fullmatch(r"best \d\d\.\d%, logistic regression 9\d\.\d%", lines[10])
    assert re.fullmatch(r"8 devices with 8 images each: accuracy \d\d\.\d%, one device \d\d\.\d%", lines[11])
