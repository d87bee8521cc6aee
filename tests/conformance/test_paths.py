"""The paths and shapes of params and state, which saved files depend on: a change here breaks every one of them."""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp

import jaxnn as nn

GOLDEN = Path(__file__).with_name("paths.json")


def model():
    """Every layer and every combinator once at least, with generated and with pinned names."""
    block = nn.serial(nn.conv(8, 3, bias=False), nn.batch_norm(), nn.relu)
    picture = nn.serial(
        nn.conv(8, 3, stride=2, name="stem"),
        nn.residual(block),
        nn.residual(nn.conv(12, 3), skip=nn.conv(12, 1, bias=False)),
        nn.repeat(nn.remat(nn.serial(nn.conv(12, 3, groups=3), nn.batch_norm(momentum=0.8), nn.tanh)), 2),
        nn.parallel(nn.max_pool(2), nn.avg_pool(2), join="add"),
        nn.dropout(0.5),
        nn.flatten(),
        nn.cast(nn.dense(5, name="head"), jnp.bfloat16),
    )
    words = nn.serial(nn.embed(11, 4), nn.time_distributed(nn.dense(3)), nn.dense(2), nn.dense(2), nn.flatten())
    first, second = nn.lift(lambda x: x[0], name="first"), nn.lift(lambda x: x[1], name="second")
    return nn.parallel(
        nn.serial(first, picture, name="picture"), nn.serial(second, words, name="words"), join="concatenate"
    )


def described(tree, prefix=""):
    found = {}
    for name, node in tree.items():
        path = prefix + name
        found |= described(node, path + "/") if isinstance(node, dict) else {path: [node.dtype.name, *node.shape]}
    return dict(sorted(found.items()))


def test_paths_and_shapes_are_those_on_record():
    x = (jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32), jax.ShapeDtypeStruct((2, 6), jnp.int32))
    params, state = jax.eval_shape(lambda key: model().init(key, x), jax.random.key(0))
    assert {"params": described(params), "state": described(state)} == json.loads(GOLDEN.read_text())


def test_the_model_on_record_keeps_its_state():
    x = (jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32), jax.ShapeDtypeStruct((2, 6), jnp.int32))
    params, state = jax.eval_shape(lambda key: model().init(key, x), jax.random.key(0))
    train = partial(model().apply, train=True)
    y, new = jax.eval_shape(lambda p, s, x, key: train(p, s, x, key=key), params, state, x, jax.random.key(1))
    assert (y.shape, described(new)) == ((2, 5 + 12), described(state))
