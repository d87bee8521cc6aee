"""Recurrent and attention layers as they are used: ragged, cut in pieces, step by step."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn

KEY = partial(jax.random.key, 3)
X = jnp.asarray(np.random.default_rng(0).standard_normal((3, 6, 8)), jnp.float32)
LENGTHS = jnp.array([6, 2, 4])
FACTORIES = {"rnn": nn.rnn, "lstm": partial(nn.lstm, peephole=True), "gru": nn.gru}


def used(model, x, **how):
    params, state = model.init(KEY(), x)
    return model.apply(params, state, x, **how)[0]


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", FACTORIES)
@pytest.mark.slow
def test_a_sequence_beside_longer_ones_is_as_it_is_alone(kind, layers, bidirectional):
    for last in (False, True):
        model = FACTORIES[kind](4, layers=layers, bidirectional=bidirectional, last=last)
        params, state = model.init(KEY(), X)
        apply = jax.jit(model.apply)
        y, _ = apply(params, state, (X, LENGTHS))
        for i, t in enumerate([6, 2, 4]):
            alone, _ = apply(params, state, X[i : i + 1, :t])
            assert_close(y[i] if last else y[i, :t], alone[0])


@pytest.mark.parametrize("layers", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", FACTORIES)
@pytest.mark.slow
def test_pieces_with_their_carry_are_the_whole(kind, layers):
    model = FACTORIES[kind](4, layers=layers, return_carry=True)
    params, state = model.init(KEY(), X)
    whole, end = model.apply(params, state, X)[0]
    first, carry = model.apply(params, state, X[:, :2])[0]
    second, last = model.apply(params, state, (X[:, 2:], None, carry))[0]
    assert_close(jnp.concatenate([first, second], 1), whole)
    jax.tree.map(assert_close, last, end)


@pytest.mark.slow
def test_a_carry_of_two_directions_and_layers_goes_in_as_it_came_out():
    model = nn.lstm(4, layers=2, bidirectional=True, return_carry=True)
    params, state = model.init(KEY(), X)
    _, carry = model.apply(params, state, (X, LENGTHS))[0]
    (_, again), _ = model.apply(params, state, (X, LENGTHS, carry))
    assert jax.tree.structure(again) == jax.tree.structure(carry)
    assert [jax.tree.leaves(c)[0].shape for c in carry] == [(3, 4)] * 2


@pytest.mark.slow
def test_params_by_layer_and_direction():
    params, _ = nn.gru(4, layers=2, bidirectional=True).init(KEY(), X)
    assert {k: sorted(v) for k, v in params.items()} == {i: ["backward", "forward"] for i in "01"}
    assert params["1"]["forward"]["w_x"].shape == (8, 12)
    assert not np.array_equal(params["0"]["forward"]["w_x"], params["0"]["backward"]["w_x"])
    assert "b_h" not in nn.gru(4, reset="before").init(KEY(), X)[0]
    forget = nn.lstm(4).init(KEY(), X)[0]["b"]
    np.testing.assert_array_equal(forget, np.repeat([0.0, 1, 0, 0], 4))


def test_a_recurrent_layer_within_others_takes_ragged_input():
    model = nn.serial(nn.lstm(4, bidirectional=True, last=True), nn.dense(2))
    assert used(model, (X, LENGTHS)).shape == (3, 2)


# Attention.

GPT = {
    "plain": {},
    "rotary": {"rotary": True},
    "grouped": {"kv_heads": 2, "rotary": 500.0, "window": (3, None)},
}


def decoder(cache, **how):
    blocks = [nn.encoder_block(4, causal=True, cache=cache, norm=nn.rms_norm, **how) for _ in range(2)]
    return nn.serial(nn.learned_positions(16, cached=cache is not None), *blocks, nn.layer_norm())


@pytest.mark.parametrize("how", GPT)
@pytest.mark.parametrize("pieces", [[1] * 6, [3, 1, 2], [6]], ids=str)
@pytest.mark.slow
def test_step_by_step_with_a_cache_is_all_at_once(how, pieces):
    params, state = decoder(None, **GPT[how]).init(KEY(), X)
    whole, _ = decoder(None, **GPT[how]).apply(params, state, X)
    model = decoder(9, **GPT[how])
    cached_params, cache = model.init(KEY(), X)
    assert jax.tree.structure(cached_params) == jax.tree.structure(params)
    step = jax.jit(lambda cache, x: model.apply(params, cache, x))
    ys, at = [], 0
    for t in pieces:
        y, cache = step(cache, X[:, at : at + t])
        ys.append(y)
        at += t
    assert_close(jnp.concatenate(ys, 1), whole)


@pytest.mark.slow
def test_a_cache_inside_a_scan_and_beyond_its_end():
    model = nn.attention(2, causal=True, cache=4)
    params, cache = model.init(KEY(), X)

    def step(cache, x):
        y, cache = model.apply(params, cache, x[:, None])
        return cache, y[:, 0]

    _, y = jax.lax.scan(step, cache, jnp.moveaxis(X, 1, 0))
    whole, _ = nn.attention(2, causal=True).apply(params, {}, X)
    assert_close(jnp.moveaxis(y, 0, 1)[:, :4], whole[:, :4])
    assert np.isnan(y[4:]).all()
    with pytest.raises(ValueError, match=r"x of shape \[3, t, d\] with t <= 4"):
        model.apply(params, cache, X)


@pytest.mark.slow
def test_attention_sees_its_context_alone():
    model = nn.attention(2, features=5)
    given = {"x": X, "context": X[:, :4, :3], "lengths": jnp.array([4, 1, 0])}
    params, state = model.init(KEY(), given)
    assert params["w_k"].shape == (3, 8)
    y, _ = model.apply(params, state, given)
    assert y.shape == (3, 6, 5)
    np.testing.assert_allclose(y[2], np.broadcast_to(params["b_o"], (6, 5)))  # it has nothing to see
    other, _ = model.apply(params, state, {**given, "context": given["context"].at[1, 1:].set(jnp.nan)})
    np.testing.assert_array_equal(other, y)


@pytest.mark.slow
def test_padding_of_an_encoder_changes_nothing():
    model = nn.serial(nn.encoder_block(2), nn.encoder_block(2))
    params, state = model.init(KEY(), {"x": X, "lengths": LENGTHS})
    y, _ = model.apply(params, state, {"x": X, "lengths": LENGTHS})
    alone, _ = model.apply(params, state, X[1:2, :2])
    assert_close(y["x"][1, :2], alone[0])


def test_a_decoder_block_of_a_set_sees_the_whole_set():
    model = nn.decoder_block(2, causal=False)
    given = {"x": X, "context": X[:, :5]}
    params, state = model.init(KEY(), given)
    f = jax.jit(lambda x: model.apply(params, state, {**given, "x": x})[0]["x"])
    y, order = f(X), jnp.array([3, 0, 5, 1, 4, 2])
    assert_close(f(X[:, order]), y[:, order])  # no position differs from another
    assert not np.allclose(f(X.at[:, 5].mul(-1))[:, 0], y[:, 0])


def test_post_norm_follows_the_addition():
    model = nn.encoder_block(2, hidden=6, post_norm=True, norm=partial(nn.layer_norm, eps=1e-12))
    params, state = model.init(KEY(), X)

    @jax.jit
    def both(params):
        def run(layer, name, x):
            return layer.apply(params[name], {}, x)[0]

        h = run(nn.layer_norm(eps=1e-12), "attention_norm", X + run(nn.attention(2), "attention", X))
        inner = run(nn.dense(X.shape[-1]), "down", nn.gelu(run(nn.dense(6), "up", h)))
        return model.apply(params, state, X)[0], run(nn.layer_norm(eps=1e-12), "mlp_norm", h + inner)

    y, want = both(params)
    assert_close(y, want)
    assert_close(y.mean(axis=-1), np.zeros(y.shape[:2]), scale=1.0)


def test_attention_weights_of_a_layer_and_of_one_inside_a_model():
    plain = nn.attention(2, causal=True, kv_heads=1)
    params, state = plain.init(KEY(), X)
    model = nn.serial(nn.repeat(nn.encoder_block(2, causal=True, dropout=0.5), 3))
    stacked, none = model.init(KEY(), X)

    @jax.jit
    def all_of(params, stacked):
        y, weights = nn.attention(2, causal=True, kv_heads=1, return_weights=True).apply(params, state, X)[0]
        watched = nn.capture(model, "encoder_block/attention/weights")
        (seen, inner), after = watched.apply(stacked, none, X, key=KEY(), train=True)
        assert after == none
        v = X @ params["w_v"] + params["b_v"][None, None]
        by_hand = jnp.einsum("nhts,nsd->nthd", weights, v).reshape(X.shape) @ params["w_o"] + params["b_o"][None, None]
        plainly = plain.apply(params, state, X)[0], model.apply(stacked, none, X, key=KEY(), train=True)[0]
        return (y, seen), plainly, by_hand, weights, inner["encoder_block/attention/weights"]

    ys, plainly, by_hand, weights, inner = all_of(params, stacked)
    for y, want in zip(ys, plainly, strict=True):
        assert_close(y, want)
    assert_close(ys[0], by_hand)
    n, t = X.shape[:2]
    assert weights.shape == (n, 2, t, t)
    assert inner.shape == (3, n, 2, t, t)
    for shares in (weights, inner):  # before dropout, so they sum to 1
        assert_close(shares.sum(axis=-1), np.ones(shares.shape[:-1]))
        assert not np.triu(np.asarray(shares), 1).any()
    with pytest.raises(ValueError, match=r"encoder_block: expected no return_weights.*capture"):
        nn.encoder_block(2, return_weights=True)
    with pytest.raises(ValueError, match=r"no return_weights with implementation='xla'"):
        nn.attention(2, return_weights=True, implementation="xla")


CACHED = {
    **{how: partial(lambda how, cached: decoder(9 if cached else None, **GPT[how]), how) for how in GPT},
    "gru": lambda cached: nn.serial(nn.gru(4, cached=cached), nn.gru(5, layers=2, reset="before", cached=cached)),
    "lstm": lambda cached: nn.repeat(nn.lstm(8, cached=cached, peephole=True), 2),
    "conv_lstm": lambda cached: nn.serial(
        nn.lift(lambda s: nn.Padded(s.x[..., None], s.lengths) if isinstance(s, nn.Padded) else s[..., None],
                name="image", padded="seen"),
        nn.conv_lstm(2, 3, cached=cached),
    ),
    "sinusoidal": lambda cached: nn.sinusoidal_positions(cached=cached),
}  # fmt: skip


@pytest.mark.parametrize("kind", CACHED)
@pytest.mark.slow
def test_each_sequence_continues_where_it_ended(kind):
    model, whole, lengths = CACHED[kind](True), CACHED[kind](False), jnp.array([4, 1, 2])
    params, _ = whole.init(KEY(), X)
    state = nn.initial_state(model, X)
    assert jax.tree.structure((params, state)) == jax.tree.structure(model.init(KEY(), X))

    @jax.jit
    def in_pieces(state):
        first, state = model.apply(params, state, nn.Padded(X[:, :4], lengths))
        return first, model.apply(params, state, X[:, 4:])[0]

    first, second = in_pieces(state)
    for i, n in enumerate(lengths.tolist()):
        alone = jnp.concatenate([X[i : i + 1, :n], X[i : i + 1, 4:]], axis=1)
        want = whole.apply(params, {}, alone)[0][0]
        assert_close(first.x[i, :n], want[:n])
        assert_close(second[i], want[n:])


def test_what_a_cached_recurrent_layer_refuses():
    with pytest.raises(ValueError, match="lstm: expected one direction with cached=True, got bidirectional=True"):
        nn.lstm(3, cached=True, bidirectional=True)
    params, state = nn.rnn(3, cached=True).init(KEY(), X)
    assert jax.tree.map(jnp.shape, state) == {"carry": {"h": (3, 3)}}
    with pytest.raises(ValueError, match="rnn: expected no carry with cached=True, got one"):
        nn.rnn(3, cached=True).apply(params, state, (X, None, jnp.ones((3, 3))))


def test_a_class_token_is_put_in_front():
    model = nn.class_token(w_init=jax.random.normal)
    params, state = model.init(KEY(), X)
    y, _ = model.apply(params, state, X)
    np.testing.assert_array_equal(y[:, 1:], X)
    np.testing.assert_array_equal(y[:, 0], np.broadcast_to(params["w"], y[:, 0].shape))
    s, _ = model.apply(params, state, nn.Padded(X, LENGTHS))
    np.testing.assert_array_equal(s.lengths, LENGTHS + 1)


def test_tied_embeddings_share_one_table_and_its_gradient():
    tokens = jnp.array([[1, 4, 2]])

    def scores(inward, outward):
        h = nn.embed(6, 3).apply({"w": inward}, {}, tokens)[0]
        return nn.unembed().apply({"w": outward}, {}, h)[0]

    def apply(params, state, x, *, key, train):
        h, state = nn.call(nn.embed(6, 3), "embed", params, state, x, key=key, train=train)
        return nn.call(nn.unembed(), "embed", params, state, h, key=key, train=train)

    model = nn.layer(None, apply, "tied")
    params, state = model.init(KEY(), tokens)
    assert jax.tree.map(jnp.shape, params) == {"embed": {"w": (6, 3)}}
    w = params["embed"]["w"]
    assert_close(model.apply(params, state, tokens)[0], np.float64(w)[np.asarray(tokens)] @ np.float64(w).T)
    tied = jax.grad(lambda p: jnp.sum(model.apply(p, state, tokens)[0] ** 2))(params)["embed"]["w"]
    assert_close(tied, sum(jax.grad(lambda a, b: jnp.sum(scores(a, b) ** 2), (0, 1))(w, w)))


def test_two_layers_with_params_under_one_name_are_an_error():
    def apply(params, state, x, *, key, train):
        x, state = nn.call(nn.dense(4), "one", params, state, x, key=key, train=train)
        return nn.call(nn.dense(4), "one", params, state, x, key=key, train=train)

    with pytest.raises(ValueError, match="one child under one name"):
        nn.layer(None, apply, "twice").init(KEY(), X)


def test_a_decoder_sees_neither_the_future_nor_the_padding_of_its_context():
    model = nn.decoder_block(2)
    given = {"x": X, "context": X[:, :5], "lengths": jnp.array([5, 3, 1])}
    params, state = model.init(KEY(), given)
    f = jax.jit(lambda x, context: model.apply(params, state, {**given, "x": x, "context": context})[0]["x"])
    y = f(X, given["context"])
    np.testing.assert_allclose(f(X.at[:, 4:].mul(-1), given["context"])[:, :4], y[:, :4], atol=1e-6)
    assert not np.allclose(f(X.at[:, 1].mul(-1), given["context"])[:, 4], y[:, 4])
    np.testing.assert_array_equal(f(X, given["context"].at[1, 3:].mul(-9)), y)


def test_patches_are_a_convolution_whose_stride_is_its_window():
    image = jnp.asarray(np.random.default_rng(0).standard_normal((2, 8, 6, 3)), jnp.float32)
    params, state = nn.patches(5, (4, 2)).init(KEY(), image)
    w = params["w"].reshape(4, 2, 3, 5)
    want = nn.ops.conv(image, w, stride=(4, 2), padding="valid").reshape(2, 6, 5)
    assert_close(nn.patches(5, (4, 2)).apply(params, state, image)[0], want)


@pytest.mark.slow
def test_a_small_transformer_learns_to_reverse():
    """Real enough to fail with any wrong mask, position or gradient: eight digits out in the opposite order."""
    digits = jax.random.randint(jax.random.key(0), (512, 8), 0, 10)
    model = nn.serial(nn.embed(10, 32), nn.learned_positions(8), nn.encoder_block(4), nn.encoder_block(4), nn.dense(10))
    params, state = model.init(KEY(), digits)
    opt = nn.adam(3e-3)

    def loss(params):
        return nn.losses.softmax_cross_entropy(model.apply(params, state, digits)[0], digits[:, ::-1]).mean()

    def step(carry, _):
        params, slots = carry
        value, grads = jax.value_and_grad(loss)(params)
        updates, slots = opt.update(grads, slots, params)
        return (jax.tree.map(jnp.add, params, updates), slots), value

    _, losses = jax.jit(lambda p: jax.lax.scan(step, (p, opt.init(p)), None, length=120))(params)
    assert float(losses[-1]) < 0.05 < 2 < float(losses[0])


@pytest.mark.parametrize("pieces", [[3, 3], [4, 1, 1], [1, 4, 1]], ids=str)
@pytest.mark.slow
@pytest.mark.parametrize("x64", [False, True])
def test_of_a_piece_that_crosses_the_end_of_a_cache_only_the_steps_beyond_are_nan(pieces, x64):
    """The cache holds 4 of 6 steps."""
    model, whole = nn.attention(2, causal=True, cache=4, rotary=True), nn.attention(2, causal=True, rotary=True)
    with jax.enable_x64(x64):
        params, cache = model.init(KEY(), X)
        want, apply = jax.jit(whole.apply)(params, {}, X)[0], jax.jit(model.apply)
        ys, at = [], 0
        for t in pieces:
            y, cache = apply(params, cache, X[:, at : at + t])
            ys.append(y)
            at += t
    y = jnp.concatenate(ys, 1)
    assert_close(y[:, :4], want[:, :4])
    assert np.isnan(y[:, 4:]).all()


@pytest.mark.parametrize("params_of", [jnp.asarray, np.asarray])
def test_of_a_piece_that_crosses_the_last_position_only_the_steps_beyond_are_nan(params_of):
    model = nn.learned_positions(4, cached=True)
    params, state = model.init(KEY(), X)
    params = jax.tree.map(params_of, params)
    first, state = model.apply(params, state, X[:, :3])
    second, _ = model.apply(params, state, X[:, 3:])
    y = jnp.concatenate([first, second], 1)
    assert_close(y[:, :4], X[:, :4] + params["w"][None])
    assert np.isnan(y[:, 4:]).all()


@pytest.mark.slow
def test_attention_drops_its_weights_in_training_alone():
    model = nn.attention(2, dropout=0.5)
    params, state = model.init(KEY(), X)
    plain = nn.attention(2).apply(params, state, X)[0]
    np.testing.assert_array_equal(model.apply(params, state, X)[0], plain)
    one, two = (model.apply(params, state, X, key=jax.random.key(k), train=True)[0] for k in (0, 1))
    assert not np.allclose(one, two)
    with pytest.raises(ValueError) as caught:
        model.apply(params, state, X, train=True)
    assert str(caught.value) == "attention: expected a key when train=True, got None. Pass key= to apply."
    np.testing.assert_array_equal(nn.attention(2, dropout=0.0).apply(params, state, X, train=True)[0], plain)


@pytest.mark.slow
def test_blocks_hand_dropout_precision_and_implementation_on():
    given = {"x": X, "context": X}
    for model, x in ((nn.encoder_block(2, dropout=0.5), X), (nn.decoder_block(2, dropout=0.5), given)):
        params, state = model.init(KEY(), x)
        one, two = (model.apply(params, state, x, key=jax.random.key(k), train=True)[0] for k in (0, 1))
        assert not np.allclose(jax.tree.leaves(one)[-1], jax.tree.leaves(two)[-1])
    for model, x in ((nn.encoder_block(2, precision="highest"), X), (nn.decoder_block(2, precision="highest"), given)):
        assert all_highest(model, x)
    params, state = nn.encoder_block(2).init(KEY(), X)
    y = nn.encoder_block(2, causal=True, implementation="xla").apply(params, state, X)[0]
    assert_close(y, nn.encoder_block(2, causal=True).apply(params, state, X)[0])


def all_highest(model, x):
    """Whether every product of a train step asks for the highest precision on a TPU."""
    params, state = model.init(KEY(), x)

    def loss(p):
        return sum(v.sum() for v in jax.tree.leaves(model.apply(p, state, x)[0]))

    text = jax.jit(jax.grad(loss)).trace(params).lower(lowering_platforms=("tpu",)).as_text()
    return text.count("[HIGHEST, HIGHEST]") == text.count("stablehlo.dot_general") > 0


PRECISE = {
    "dense": nn.dense,
    "maxout": nn.maxout,
    "attention": lambda features, **how: nn.attention(2, features=features, kv_heads=1, **how),
    "rnn": nn.rnn,
    "lstm": partial(nn.lstm, projection=2),
    "gru": nn.gru,
    "gru before": partial(nn.gru, reset="before"),
}


@pytest.mark.parametrize("kind", PRECISE)
@pytest.mark.slow
def test_precision_reaches_every_product_of_a_train_step(kind):
    assert all_highest(PRECISE[kind](4, precision="highest"), X)
    assert not all_highest(PRECISE[kind](4), X)


def test_precision_of_layers_with_another_input():
    image = jnp.ones((2, 4, 4, 3))
    assert all_highest(nn.patches(5, 2, precision="highest"), image)
    params, state = nn.perceptron(3).init(KEY(), X)
    f = jax.jit(lambda x: nn.perceptron(3, precision="highest").apply(params, state, x)[0])
    assert "[HIGHEST, HIGHEST]" in f.trace(X).lower(lowering_platforms=("tpu",)).as_text()


REFUSED = {
    "softcap": (lambda: nn.attention(2, softcap=0.0), "softcap in (0, inf), got 0.0."),
    "dropout": (
        lambda: nn.attention(2, dropout=1.0),
        "dropout in [0, 1), got 1.0. It is the probability of dropping.",
    ),
    "window": (lambda: nn.attention(2, window=(-1, 0)), "each side of window to be an integer >= 0, got -1."),
    "cache": (
        lambda: nn.attention(2, causal=True, cache=4, implementation="xla"),
        "no cache with implementation='xla', got cache. "
        "jax.nn.dot_product_attention has none: leave implementation= out.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_attention_refuses_when_it_is_made(case):
    wrong, text = REFUSED[case]
    with pytest.raises(ValueError) as caught:
        wrong()
    assert str(caught.value) == f"attention: expected {text}"
