"""Data parallelism by `shard_map` against one device, on eight devices in a process of its own, and its errors."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxnn as nn
from jaxnn._calls import call_of

SCRIPT = Path(__file__).with_name("_parts.py")
PARALLEL = nn.sharding.data_parallel
TRAINER = nn.trainer(nn.dense(2), nn.losses.squared_error, nn.sgd(0.1), axis_name="data")
MESH = nn.mesh("data=1")


@pytest.mark.slow
def test_eight_parts_are_the_batch_on_one_device():
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    text = "data_parallel: expected axis 0 of batch[0] of shape [12, 5, 3] to be divisible by data = 8, got 12."
    assert found.pop("error") == text
    assert found.pop("state").startswith("data_parallel: expected params and state that are equal on all devices, got")
    assert not found.pop("kept by equal masks")
    assert {case: d for case, d in found.items() if not d < 1e-10} == {}


def test_one_part_is_the_trainer():
    batch = np.ones((4, 3), np.float32), np.zeros((4, 2), np.float32)
    made = PARALLEL(TRAINER, MESH)
    plain = nn.trainer(nn.dense(2), nn.losses.squared_error, nn.sgd(0.1))
    got, want = (jax.jit(t.step)(t.init(jax.random.key(0), batch), batch) for t in (made, plain))
    jax.tree.map(np.testing.assert_array_equal, got, want)
    assert call_of(made) is call_of(TRAINER)
    assert PARALLEL(TRAINER._replace(gradients=None), MESH).gradients is None


PLAIN = nn.trainer(nn.dense(2), nn.losses.squared_error, nn.sgd(0.1))
WRONG = {
    "a layer": (lambda: PARALLEL(nn.dense(2), MESH), TypeError, "expected a Trainer, got .* nn.trainer"),
    "no mesh": (lambda: PARALLEL(TRAINER, 8), TypeError, "expected a mesh of Auto axes, got 8"),
    "no axis": (lambda: PARALLEL(PLAIN, MESH), ValueError, r"axis_name='data', got axis_name=None. nn.trainer\("),
    "another axis": (lambda: PARALLEL(TRAINER, nn.mesh("rows=1")), ValueError, "axis_name to be an axis of the mesh"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls(case):
    call, kind, text = WRONG[case]
    with pytest.raises(kind, match=f"data_parallel: .*{text}"):
        call()
