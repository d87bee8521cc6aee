"""Weight decay: the leaves that a mask selects, the forms of a mask, and its precision."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn.optimizers import adadelta, sgd
from jaxnn.optimizers._decay import WeightDecay
from jaxnn.optimizers._lift import per_leaf, zeros_f32


@pytest.mark.parametrize(
    ("mask", "decays"),
    [
        (None, [1, 1, 1]),
        (True, [1, 1, 1]),
        (np.bool_(False), [0, 0, 0]),
        ({"block": {"w": True, "b": False}, "head": True}, [0, 1, 1]),
        ({"block": True, "head": False}, [1, 1, 0]),
        (lambda params: jax.tree.map(lambda p: p.ndim > 1, params), [0, 1, 0]),
    ],
    ids=["none", "all", "nothing", "tree", "prefix", "function"],
)
def test_masks(mask, decays):
    x = {"block": {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}, "head": jnp.ones(())}
    opt = sgd(1.0, weight_decay=0.5, mask=mask)
    u, _ = opt.update(jax.tree.map(jnp.zeros_like, x), opt.init(x), x)
    assert [-2 * float(leaf.mean()) for leaf in jax.tree.leaves(u)] == decays  # b, w, head


def test_a_mask_reaches_masked_nodes():
    x = {"a": jnp.ones(2), "b": jnp.ones(2)}
    opt = optax.masked(adadelta(weight_decay=0.5, weight_decay_mask={"a": True, "b": True}), {"a": True, "b": False})
    u, _ = opt.update(x, opt.init(x), x)
    alone = adadelta(weight_decay=0.5)
    np.testing.assert_array_equal(u["a"], alone.update(x["a"], alone.init(x["a"]), x["a"])[0])
    np.testing.assert_array_equal(u["b"], x["b"])


def test_decay_of_a_bfloat16_parameter_is_added_in_float32():
    x, g = jnp.full(1, 256, jnp.bfloat16), jnp.ones(1, jnp.bfloat16)  # in bfloat16 256 + 1 is 256
    opt = per_leaf("rule", {"kept": zeros_f32}, lambda g, s, p, t: (g, {"kept": g}), 1.0, WeightDecay(1.0))
    assert opt.update(g, opt.init(x), x)[1]["kept"] == 257
