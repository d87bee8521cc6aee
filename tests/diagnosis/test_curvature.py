"""Sharpness against the eigenvalues of the whole Hessian."""

import jax
import numpy as np
import pytest
from _tiers import only
from diagnosis._nets import CE, KEY, TARGET, X, Y, begun, mlp, regressor
from jax.flatten_util import ravel_pytree

import jaxnn as nn
from jaxnn.diagnosis import sharpness

CASES = {
    "regression": (regressor(), (X, TARGET)),
    "frozen": (regressor(frozen="dense/*"), (X, TARGET)),
    "classes": (nn.trainer(mlp(), CE, nn.sgd(0.1)), (X, Y)),
}


@pytest.mark.parametrize("case", only({"regression"}, CASES))
@pytest.mark.slow
def test_sharpness_is_the_largest_eigenvalue(case):
    trainer, batch = CASES[case]
    ts = begun(trainer, batch)
    kept = trainer.gradients(ts, batch)

    def loss(flat):
        return trainer.evaluate(ts._replace(params={**ts.params, **unravel(flat)}), batch)["loss"]

    flat, unravel = ravel_pytree({name: ts.params[name] for name in kept})
    known = np.linalg.eigvalsh(np.asarray(jax.jit(jax.hessian(loss))(flat), np.float64))[-1]
    found = jax.jit(lambda ts: sharpness(trainer, ts, batch, KEY, steps=25))(ts)
    np.testing.assert_allclose(found, known, rtol=1e-3)
