"""Sizes of gradients and updates against NumPy."""

import jax
import numpy as np
from _close import assert_close
from diagnosis._nets import TARGET, X, begun, regressor

import jaxnn as nn
from jaxnn.diagnosis import gradient_sizes, update_ratios
from jaxnn.train import Trainer


def test_sizes_leave_zeros_out_and_are_by_path():
    table = nn.trainer(nn.serial(nn.embed(5, 2), lambda x: x[:, 0]), nn.losses.squared_error, nn.sgd(1.0))
    batch = np.array([[1], [1], [3]], np.int32), np.ones((3, 2), np.float32)
    ts = begun(table, batch)
    found = gradient_sizes(table, ts, batch)
    g = np.asarray(jax.tree.leaves(table.gradients(ts, batch))[0])
    assert (g[[0, 2, 4]] == 0).all()
    assert_close(found["embed/w"], np.sqrt((g[[1, 3]] ** 2).mean()).astype(np.float32))


def test_update_ratios_are_those_of_a_step():
    trainer = regressor(nn.adam(0.01), frozen="dense/*")
    assert isinstance(trainer, Trainer)
    ts = begun(trainer)
    found = update_ratios(trainer, ts, (X, TARGET))
    after, _ = trainer.step(ts, (X, TARGET))
    a, b = (np.asarray(s.params["dense_1"]["w"]) for s in (ts, after))
    assert_close(found["dense_1/w"], np.linalg.norm(b - a) / np.linalg.norm(a), dtype="float32")
    assert found["dense/w"] == found["dense_1/b"] == 0  # frozen, and zeros as a param
