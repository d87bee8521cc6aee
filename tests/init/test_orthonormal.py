"""QR decompositions by reflections against LAPACK's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tiers import only

from jaxnn.init import _orthonormal, orthogonal

SHAPES = [(1, 1), (3, 2), (32, 32), (70, 40), (33, 33)]


@pytest.mark.parametrize("shape", only({(3, 2), (70, 40)}, SHAPES), ids=str)
@pytest.mark.usefixtures("x64")
def test_by_reflections_is_lapacks(shape):
    a = np.random.default_rng(0).normal(size=shape)
    q, r = np.linalg.qr(a)
    np.testing.assert_allclose(_orthonormal.by_reflections(jnp.asarray(a)), q * np.sign(np.diag(r)), atol=1e-14)


def test_columns_of_zeros_are_reflected_to_finite_values():
    q = _orthonormal.by_reflections(jnp.zeros((4, 3)).at[0, 0].set(-2.0))
    np.testing.assert_allclose(np.abs(q), np.eye(4, 3), atol=1e-7)


def test_under_a_mesh_no_lapack_is_called():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("members",))
    spec = jax.sharding.PartitionSpec("members")
    keys = jax.random.split(jax.random.key(0), 2)

    def draw(keys):
        return jax.vmap(lambda key: orthogonal(key, (5, 5)))(keys)

    sharded = jax.jit(jax.shard_map(draw, mesh=mesh, in_specs=spec, out_specs=spec))
    assert "lapack" in jax.jit(draw).lower(keys).as_text()
    assert "lapack" not in sharded.lower(keys).as_text()
    np.testing.assert_allclose(sharded(keys), draw(keys), atol=2e-6)
