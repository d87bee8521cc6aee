"""How layers combine, against the same written out by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn
from jaxnn._keys import fold_name

KEY = jax.random.key(0)
X = np.linspace(-1, 2, 32, dtype=np.float32).reshape(8, 4)


def close(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(assert_close, a, b)


def affine(p, x):
    return np.float64(x) @ np.float64(p["w"]) + np.float64(p.get("b", 0))


def run(model, x=X, **options):
    params, state = model.init(KEY, x)
    return params, model.apply(params, state, jnp.asarray(x), **options)[0]


def test_serial_feeds_each_layer_to_the_next():
    p, y = run(nn.serial(nn.dense(5), nn.tanh, nn.dense(3)))
    assert_close(y, affine(p["dense_1"], np.tanh(affine(p["dense"], X))))


def test_serial_of_nothing_is_the_identity():
    p, y = run(nn.serial())
    assert p == {}
    assert_close(y, X)


def test_serial_keeps_the_state_of_every_layer():
    model = nn.serial(nn.batch_norm(momentum=0.5), nn.batch_norm(momentum=0.0))
    params, state = model.init(KEY, X)
    y, new = jax.jit(partial(model.apply, train=True))(params, state, X)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    assert_close(new["batch_norm"]["mean"], X.mean(axis=0, dtype=np.float64) / 2)
    assert_close(new["batch_norm_1"]["mean"], np.zeros(4), scale=1.0)
    _, same = model.apply(params, new, y)
    close(same, new)


@pytest.mark.parametrize(
    ("join", "by_hand"),
    [
        ("add", lambda a, b: a + b),
        ("concatenate", lambda a, b: np.concatenate([a, b], axis=-1)),
        (lambda a, b: a * b, lambda a, b: a * b),
    ],
)
def test_parallel_joins(join, by_hand):
    p, y = run(nn.parallel(nn.dense(3), nn.serial(nn.dense(3), nn.tanh), join=join))
    assert sorted(p) == ["dense", "serial"]
    assert_close(y, by_hand(affine(p["dense"], X), np.tanh(affine(p["serial"]["dense"], X))))


def test_parallel_keeps_apart_what_it_does_not_join():
    p, (a, b) = run(nn.parallel(nn.dense(2), nn.dense(3), join=lambda *ys: ys))
    assert_close(a, affine(p["dense"], X))
    assert_close(b, affine(p["dense_1"], X))
    _, one = run(nn.parallel(nn.relu, join="add"))
    assert_close(one, np.maximum(X, 0))


def test_parallel_renews_the_state_of_each_branch():
    model = nn.parallel(nn.batch_norm(momentum=0.0), nn.serial(nn.dense(4), nn.batch_norm(momentum=0.0)), join="add")
    params, state = model.init(KEY, X)
    _, new = model.apply(params, state, X, train=True)
    assert_close(new["batch_norm"]["mean"], X.mean(axis=0, dtype=np.float64))
    inner = affine(params["serial"]["dense"], X)
    assert_close(new["serial"]["batch_norm"]["mean"], inner.mean(axis=0))


def test_residual_adds_the_input():
    p, y = run(nn.residual(nn.serial(nn.dense(4), nn.tanh)))
    assert sorted(p) == ["dense"]
    assert_close(y, np.tanh(affine(p["dense"], X)) + X)


@pytest.mark.parametrize("around", [nn.residual, lambda block, **how: nn.repeat(block, 2, **how)])
def test_a_name_pins_the_path_and_the_key(around):
    model = nn.serial(around(nn.dense(4)), around(nn.dense(4)), around(nn.dense(4), name="stage"))
    params, state = model.init(KEY, X)
    assert list(params) == ["dense", "dense_1", "stage"]
    moved, _ = nn.serial(around(nn.dense(4), name="stage")).init(KEY, X)
    np.testing.assert_array_equal(moved["stage"]["w"], params["stage"]["w"])
    assert not np.array_equal(params["dense"]["w"], params["stage"]["w"])
    assert model.apply(params, state, X)[0].shape == X.shape


def test_residual_with_a_projection():
    model = nn.residual(nn.serial(nn.dense(3), nn.batch_norm()), skip=nn.serial(nn.dense(3), nn.batch_norm()))
    params, state = model.init(KEY, X)
    assert sorted(params) == sorted(state | {"dense": 0}) == ["batch_norm", "dense", "skip"]
    y, new = model.apply(params, state, X)
    shrink = 1 / np.sqrt(1 + 1e-5)
    assert_close(y, shrink * (affine(params["dense"], X) + affine(params["skip"]["dense"], X)))
    _, new = model.apply(params, state, X, train=True)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    skip = affine(params["skip"]["dense"], X).mean(axis=0)
    assert_close(new["skip"]["batch_norm"]["mean"], 0.1 * skip)
    close(params["skip"], nn.serial(nn.dense(3), nn.batch_norm()).init(fold_name(KEY, "skip"), X)[0])


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda block: nn.residual(block),
        lambda block: nn.remat(block),
        lambda block: nn.cast(block, jnp.float32),
        lambda block: nn.residual(nn.remat(nn.cast(block, jnp.float32))),
    ],
)
def test_wrappers_keep_name_params_and_key(wrapped):
    for block in (nn.dense(4), nn.dense(4, name="own"), nn.serial(nn.dense(4), nn.batch_norm(), name="stem")):
        model = wrapped(block)
        assert model.name == block.name
        close(model.init(KEY, X), block.init(KEY, X))
    pair = nn.serial(wrapped(nn.dense(4)), wrapped(nn.dense(4)))
    assert sorted(jax.eval_shape(pair.init, KEY, X)[0]) == ["dense", "dense_1"]


# repeat

BLOCK = nn.serial(nn.dense(4), nn.batch_norm(momentum=0.5), nn.tanh, nn.dropout(0.4))


def by_hand(block, n, params, state, x, *, key=None, train=False):
    """The copies of a block one after the other, in Python."""
    states = []
    for i in range(n):
        own_params, own_state = jax.tree.map(lambda v, i=i: v[i], (params, state))
        inner = None if key is None else jax.random.fold_in(key, i)
        x, new = block.apply(own_params, own_state, x, key=inner, train=train)
        states.append(new)
    return x, jax.tree.map(lambda *v: jnp.stack(v), *states)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.slow
def test_repeat_is_its_copies_written_out(n, train):
    model = nn.repeat(BLOCK, n)
    params, state = model.init(KEY, X)
    key = jax.random.key(9) if train else None
    expected = by_hand(BLOCK, n, params, state, jnp.asarray(X), key=key, train=train)
    for form in (model, nn.repeat(BLOCK, n, unroll=True)):
        close(form.apply(params, state, X, key=key, train=train), expected)
    if train:
        assert not np.array_equal(expected[1]["batch_norm"]["mean"], state["batch_norm"]["mean"])


def test_repeat_draws_each_copy_with_its_own_key():
    params, state = nn.repeat(BLOCK, 3).init(KEY, X)
    own = [BLOCK.init(jax.random.fold_in(KEY, i), X) for i in range(3)]
    close((params, state), jax.tree.map(lambda *v: jnp.stack(v), *own))
    w = np.asarray(params["dense"]["w"])
    assert len({v.tobytes() for v in w}) == 3


def test_repeat_draws_each_copy_a_mask():
    x = jnp.ones(4000)
    y, _ = nn.repeat(nn.dropout(0.5), 3).apply({}, {}, x, key=KEY, train=True)
    assert abs(float((y > 0).mean()) - 0.125) < 0.03
    assert set(np.unique(y)) == {0.0, 8.0}


def test_repeat_has_the_gradients_of_its_copies():
    block = nn.serial(nn.dense(4), nn.tanh)
    model = nn.repeat(block, 3)
    params, state = model.init(KEY, X)

    def loss(apply):
        return jax.jit(jax.grad(lambda p, x: (apply(p, state, x)[0] ** 2).sum(), argnums=(0, 1)))(
            params, jnp.asarray(X)
        )

    expected = loss(partial(by_hand, block, 3))
    for form in (model, nn.repeat(block, 3, unroll=True), nn.repeat(nn.remat(block), 3), nn.remat(model)):
        close(loss(form.apply), expected)


def test_repeat_compiles_once_whatever_n_is():
    def program(n, unroll):
        model = nn.repeat(nn.serial(nn.dense(4), nn.tanh), n, unroll=unroll)
        params, state = jax.eval_shape(model.init, KEY, X)
        text = jax.jit(model.apply).lower(params, state, jnp.asarray(X)).compile().as_text()
        return text.count(" = "), text.count("dot(")

    few, many, rolled = program(5, False), program(50, False), program(5, True)
    assert many[1] == few[1]
    assert many[0] <= few[0]
    assert rolled[1] == 5 * few[1] > 0


@pytest.mark.parametrize(
    ("model", "net"),
    [
        (nn.repeat(nn.residual(nn.serial(nn.dense(4), nn.tanh)), 2), lambda f, g, x: g(f(x) + x) + f(x) + x),
        (nn.residual(nn.repeat(nn.serial(nn.dense(4), nn.tanh), 2)), lambda f, g, x: g(f(x)) + x),
    ],
)
@pytest.mark.slow
def test_repeat_and_residual_nest(model, net):
    p, y = run(model)
    w, b = np.float64(p["dense"]["w"]), np.float64(p["dense"]["b"])
    assert_close(y, net(lambda x: np.tanh(x @ w[0] + b[0]), lambda x: np.tanh(x @ w[1] + b[1]), np.float64(X)))


@pytest.mark.slow
def test_repeat_of_repeat_stacks_twice():
    p, y = run(nn.repeat(nn.repeat(nn.dense(4, bias=False), 2), 3))
    assert p["w"].shape == (3, 2, 4, 4)
    expected = np.float64(X)
    for w in np.float64(p["w"]).reshape(6, 4, 4):
        expected = expected @ w
    assert_close(y, expected)
    one = nn.dense(4).init(jax.random.fold_in(jax.random.fold_in(KEY, 2), 1), X)[0]["w"]
    assert_close(nn.repeat(nn.repeat(nn.dense(4), 2), 3).init(KEY, X)[0]["w"][2, 1], one)


@pytest.mark.slow
def test_repeat_under_vmap_of_params():
    model = nn.repeat(nn.serial(nn.dense(4), nn.batch_norm()), 2)
    keys = jax.random.split(KEY, 3)
    params, state = jax.vmap(lambda key: model.init(key, X))(keys)
    y, new = jax.vmap(partial(model.apply, train=True), in_axes=(0, 0, None))(params, state, X)
    one = model.apply(*jax.tree.map(lambda v: v[1], (params, state)), X, train=True)
    close(jax.tree.map(lambda v: v[1], (y, new)), one)


# remat, time_distributed, cast


@pytest.mark.parametrize("policy", [None, jax.checkpoint_policies.dots_saveable])
@pytest.mark.slow
def test_remat_changes_neither_values_nor_gradients(policy):
    plain, model = BLOCK, nn.remat(BLOCK, policy=policy)
    params, state = plain.init(KEY, X)
    key = jax.random.key(5)

    def loss(params, apply):
        y, new = apply(params, state, jnp.asarray(X), key=key, train=True)
        return (y**2).sum(), new

    def grads(apply):
        return jax.value_and_grad(partial(loss, apply=apply), has_aux=True)(params)

    close(grads(model.apply), grads(plain.apply))
    program = str(jax.make_jaxpr(lambda p: jax.grad(lambda p: loss(p, model.apply)[0])(p))(params))
    assert "remat" in program or "checkpoint" in program


def test_time_distributed_runs_every_step():
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    p, y = run(nn.time_distributed(nn.serial(nn.dense(5), nn.tanh)), x)
    assert_close(y, np.stack([np.tanh(affine(p["dense"], x[:, t])) for t in range(3)], axis=1))
    norm = nn.time_distributed(nn.batch_norm(momentum=0.0))
    params, state = norm.init(KEY, x)
    _, new = norm.apply(params, state, x, train=True)
    assert_close(new["mean"], x.mean(axis=(0, 1), dtype=np.float64))
    _, pair = run(nn.time_distributed(nn.parallel(nn.flatten(), nn.relu, join=lambda *ys: ys)), np.ones((2, 3, 2, 2)))
    assert [v.shape for v in pair] == [(2, 3, 4), (2, 3, 2, 2)]
    assert nn.time_distributed(nn.relu).apply({}, {}, jnp.ones((0, 3, 4)))[0].shape == (0, 3, 4)


@pytest.mark.parametrize("x_dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("dtype", ["bfloat16", jnp.float16, np.float32])
def test_cast_computes_in_its_dtype_and_gives_back_the_other(x_dtype, dtype):
    seen = []

    def note(x):
        seen.append(x.dtype)
        return x

    model = nn.cast(nn.serial(nn.dense(4), note, nn.batch_norm()), dtype)
    x = jnp.asarray(X, x_dtype)
    params, state = model.init(KEY, x)
    y, new = model.apply(params, state, x, train=True)
    assert y.dtype == x.dtype
    assert set(seen[1:]) == {jnp.dtype(dtype)}
    assert {v.dtype.name for v in jax.tree.leaves((params, state, new))} == {"float32"}
    nested = nn.repeat(nn.residual(nn.cast(nn.dense(4), dtype)), 2)
    assert run(nested, x)[1].dtype == x.dtype


def test_cast_rounds_as_its_dtype_does():
    w = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)
    y, _ = nn.cast(nn.dense(3, bias=False), jnp.bfloat16).apply({"w": w}, {}, X)
    expected = jnp.asarray(X, jnp.bfloat16) @ w.astype(jnp.bfloat16)
    assert y.dtype == jnp.float32
    assert_close(y, expected, dtype="bfloat16")
    assert np.array_equal(y, y.astype(jnp.bfloat16).astype(jnp.float32))
    g = jax.grad(lambda w: nn.cast(nn.dense(3, bias=False), jnp.bfloat16).apply({"w": w}, {}, X)[0].sum())(w)
    assert g.dtype == jnp.float32


def test_cast_leaves_whole_numbers_alone():
    for output, dtype in ((None, jnp.bfloat16), ("float32", jnp.float32)):
        model = nn.cast(nn.embed(5, 3), jnp.bfloat16, output=output)
        params, state = model.init(KEY, jnp.array([0]))
        assert model.apply(params, state, jnp.array([1, 2]))[0].dtype == dtype


def test_cast_reaches_all_layers_inside_and_an_inner_cast_its_own():
    seen = []

    def note(x):
        seen.append(x.dtype.name)
        return x.astype(jnp.float32)  # the next layer gets another dtype all the same

    head = nn.cast(nn.serial(note, nn.dense(3), name="head"), jnp.float32)
    model = nn.serial(nn.embed(5, 3), note, nn.residual(nn.serial(nn.dense(3), note)), head, note)
    params, state = model.init(KEY, jnp.array([0]))
    seen.clear()
    y, _ = nn.cast(model, "bfloat16", output="float32").apply(params, state, jnp.array([1, 2]))
    assert (seen, y.dtype) == (["bfloat16", "bfloat16", "float32", "bfloat16"], jnp.float32)
    model.apply(params, state, jnp.array([1, 2]))
    assert seen[4:] == ["float32"] * 4


def test_a_function_jitted_inside_is_traced_for_each_dtype():
    table = nn.embed(5, 3)
    looked_up = jax.jit(lambda params, x: nn.call(table, "embed", params, {}, x)[0])
    model = nn.layer(None, lambda params, state, x, *, key, train: (looked_up(params, x), state), "jitted")
    params, x = {"embed": table.init(KEY, jnp.array([0]))[0]}, jnp.array([1, 2])
    dtypes = [m.apply(params, {}, x)[0].dtype.name for m in (model, nn.cast(model, "bfloat16"), model)]
    assert dtypes == ["float32", "bfloat16", "float32"]


def apply_of(model, x=X, like=X):
    params, state = model.init(KEY, like)
    return model.apply(params, state, jnp.asarray(x))


SKIP = nn.serial(nn.dense(4, name="skip"))


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: nn.parallel(join="add"), ValueError, "parallel: expected at least one branch, got none."),
        (
            lambda: nn.parallel(nn.relu, join="mul", name="fork"),
            ValueError,
            "fork: expected join to be one of 'add', 'concatenate', got 'mul'. "
            "Or pass a function: join=lambda *ys: ...",
        ),
        (
            lambda: apply_of(nn.parallel(nn.dense(3), nn.dense(4), join="add", name="fork")),
            ValueError,
            "fork: expected outputs of equal shapes, got (float32[8, 3], float32[8, 4]).",
        ),
        (
            lambda: apply_of(nn.parallel(nn.dense(1), nn.dense(4), join="add")),
            ValueError,
            "parallel: expected outputs of equal shapes, got (float32[8, 1], float32[8, 4]).",
        ),
        (
            lambda: nn.serial(nn.parallel(nn.relu, lambda x: x[:2], join="concatenate"), nn.relu).init(KEY, X),
            ValueError,
            "parallel: expected outputs of equal shapes except the last axis, got (float32[8, 4], float32[2, 4]).",
        ),
        (
            lambda: apply_of(nn.residual(nn.dense(3))),
            ValueError,
            "residual: block(x) is float32[8, 3] but the skip connection is float32[8, 4]. "
            "Make the block keep the shape, or project it with skip=.",
        ),
        (
            lambda: nn.serial(nn.residual(nn.serial(nn.dense(4), name="b"), skip=nn.dense(1)), name="net").init(KEY, X),
            ValueError,
            "b: block(x) is float32[8, 4] but the skip connection is float32[8, 1]. "
            "Make the block keep the shape, or project it with skip=.",
        ),
        (
            lambda: nn.residual(SKIP, skip=nn.dense(4)).init(KEY, X),
            ValueError,
            "residual: expected no child of the block to be named 'skip' together with skip=, got one. "
            "Give that layer another name=.",
        ),
        (
            lambda: apply_of(nn.parallel(nn.relu, lambda x: (x, x), join="add")),
            TypeError,
            "parallel: expected one array from every branch to add, got (float32[8, 4], (float32[8, 4], "
            "float32[8, 4])). Join them with a function: join=lambda *ys: ...",
        ),
        (
            lambda: apply_of(nn.parallel(nn.relu, lambda x: x.astype(jnp.bfloat16), join="concatenate")),
            TypeError,
            "parallel: expected outputs of equal dtypes, got (float32[8, 4], bfloat16[8, 4]). "
            "Wrap a branch in cast, which returns x's dtype.",
        ),
        (
            lambda: apply_of(nn.residual(lambda x: x.astype(jnp.bfloat16))),
            TypeError,
            "residual: block(x) is bfloat16[8, 4] but the skip connection is float32[8, 4]. "
            "Wrap what changes the dtype in cast, which returns x's dtype.",
        ),
        (
            lambda: nn.repeat(nn.dense(4), 3).apply(nn.repeat(nn.dense(4), 2).init(KEY, X)[0], {}, jnp.asarray(X)),
            ValueError,
            "repeat: expected b stacked for 3 copies, [3, ...], got float32[2, 4]. Initialise with the same n.",
        ),
        (
            lambda: apply_of(nn.repeat(nn.dense(5), 2)),
            ValueError,
            "repeat: expected a block that gives back float32[8, 4], got float32[8, 5]. Each copy feeds the next.",
        ),
        (
            lambda: nn.serial(nn.repeat(lambda x: x.astype(jnp.bfloat16), 2), name="net").init(KEY, X),
            ValueError,
            "lift: expected a block that gives back float32[8, 4], got bfloat16[8, 4]. Each copy feeds the next.",
        ),
        (
            lambda: nn.time_distributed(nn.relu).init(KEY, jnp.ones(3)),
            ValueError,
            "time_distributed: expected x of shape [n, t, ...], got float32[3].",
        ),
        (
            lambda: nn.serial(nn.time_distributed(nn.dense(2))).apply({}, {}, jnp.ones(())),
            ValueError,
            "dense: expected x of shape [n, t, ...], got float32[].",
        ),
        (
            lambda: nn.time_distributed(nn.relu).apply({}, {}, (jnp.ones(3),)),
            TypeError,
            "time_distributed: expected x to be one array of shape [n, t, ...], got (float32[3],).",
        ),
        (lambda: nn.cast(nn.relu, jnp.int32), TypeError, "cast: expected dtype to be a floating dtype, got int32."),
        (lambda: nn.cast(nn.relu, None), TypeError, "cast: expected dtype to be a floating dtype, got None."),
        (lambda: nn.cast(nn.relu, "half32"), TypeError, "cast: expected dtype to be a floating dtype, got 'half32'."),
        (
            lambda: nn.cast(nn.relu, "float32", output=int),
            TypeError,
            "cast: expected output to be a floating dtype, got int64.",
        ),
        (lambda: nn.cast(nn.relu, complex), TypeError, "cast: expected dtype to be a floating dtype, got complex128."),
    ],
)
def test_wrong_calls(make, error, text):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == text
