"""nn.generate: greedy tokens are those of the whole sequence at every step, draws have the promised distribution."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn

KEY = partial(jax.random.key, 5)
V, STEPS = 11, 6
PROMPTS = np.random.default_rng(0).integers(0, V, (3, 5)).astype(np.int32)
LENGTHS = np.array([5, 2, 3])


def decoder(cache, *, embed, block, positions):
    """Layers by name, with tied embeddings."""

    def apply(params, state, x, *, key, train):
        parts = {"embed": embed, "positions": positions, "blocks": nn.repeat(block, 2), "norm": nn.layer_norm()}
        for name, part in (*parts.items(), ("embed", nn.unembed())):
            x, state = nn.call(part, name, params, state, x, key=key, train=train)
        return x, state

    return nn.layer(None, apply, "decoder", padded="seen")


def learned(cache):
    block = nn.encoder_block(2, causal=True, cache=cache)
    return decoder(cache, embed=nn.embed(V, 8), block=block, positions=nn.learned_positions(16, cached=bool(cache)))


def rotary(cache):
    block = nn.encoder_block(4, causal=True, cache=cache, rotary=True, kv_heads=2, window=(3, None), norm=nn.rms_norm)
    return decoder(cache, embed=nn.embed(V, 8), block=block, positions=nn.identity())


def sinusoidal(cache):
    block = nn.encoder_block(1, causal=True, cache=cache, hidden=5)
    return decoder(cache, embed=nn.embed(V, 8), block=block, positions=nn.sinusoidal_positions(cached=bool(cache)))


def recurrent(cache):
    layers = [nn.gru(8, cached=bool(cache)), nn.lstm(8, layers=2, cached=bool(cache))]
    return nn.serial(nn.embed(V, 8), *layers, nn.dense(V))


MODELS = {"learned": learned, "rotary": rotary, "sinusoidal": sinusoidal, "recurrent": recurrent}


@cache
def params_of(kind):
    params, _ = jax.jit(MODELS[kind](None).init)(KEY(), PROMPTS)
    return jax.tree.map(lambda p: (9 if kind == "recurrent" else 3) * p, params)  # so that tokens differ


def one_by_one(kind, prompt):
    """The model applied to the whole sequence, once for each token."""
    model, tokens = MODELS[kind](None), np.zeros((1, len(prompt) + STEPS), np.int32)
    apply = jax.jit(lambda x: model.apply(params_of(kind), {}, x)[0])
    tokens[0, : len(prompt)] = prompt
    for t in range(len(prompt), tokens.shape[1]):  # what follows a step does not change it
        tokens[0, t] = np.argmax(apply(tokens)[0, t - 1])
    return tokens[0, len(prompt) :]


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_greedy_tokens_are_those_of_the_whole_sequence(kind):
    params = params_of(kind)
    want = np.stack([one_by_one(kind, prompt[:n]) for prompt, n in zip(PROMPTS, LENGTHS, strict=True)])
    assert len(np.unique(want)) > 2
    for model in (MODELS[kind](PROMPTS.shape[1] + STEPS - 1), MODELS[kind](None)):
        y = nn.generate(model, params, {}, nn.Padded(PROMPTS, LENGTHS), None, STEPS, temperature=0)
        np.testing.assert_array_equal(y.x, want)
        assert y.lengths.tolist() == [STEPS] * 3


@pytest.mark.slow
def test_params_and_caches_of_16_bits():
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params_of("rotary"))
    model = rotary(PROMPTS.shape[1] + STEPS)
    state = jax.tree.map(
        lambda v: v.astype(jnp.bfloat16) if v.dtype == jnp.float32 else v, nn.initial_state(model, PROMPTS)
    )
    whole, cached, narrow = (
        nn.generate(m, params, s, PROMPTS, None, STEPS, temperature=0).x
        for m, s in ((rotary(None), {}), (model, {}), (model, state))
    )
    np.testing.assert_array_equal(cached, whole)
    np.testing.assert_array_equal(narrow, whole)


def table(logits):
    """A model whose next logits are a row of a table."""
    return nn.lift(lambda x: jnp.asarray(logits, jnp.float32)[x], name="table")


LOGITS = np.log([0.5, 0.25, 0.15, 0.1])


@pytest.mark.parametrize(
    ("how", "want"),
    [
        ({}, [0.5, 0.25, 0.15, 0.1]),
        ({"temperature": 0.5}, np.square([0.5, 0.25, 0.15, 0.1]) / 0.345),
        ({"top_k": 2}, [2 / 3, 1 / 3, 0, 0]),
        ({"top_k": 1}, [1, 0, 0, 0]),
        ({"top_p": 0.7}, [2 / 3, 1 / 3, 0, 0]),  # .5 alone is not enough
        ({"top_p": 0.5}, [1, 0, 0, 0]),
        ({"top_p": 1.0}, [0.5, 0.25, 0.15, 0.1]),
        ({"top_k": 3, "top_p": 0.6}, [2 / 3, 1 / 3, 0, 0]),  # of .9, the first has .56
        ({"temperature": 2.0, "top_p": 0.9}, np.sqrt([0.5, 0.25, 0.15, 0.1]) / np.sqrt([0.5, 0.25, 0.15, 0.1]).sum()),
    ],
    ids=str,
)
@pytest.mark.slow
def test_draws_have_the_distribution(how, want):
    model = table(np.tile(LOGITS, (4, 1)))
    tokens = nn.generate(model, {}, {}, jnp.zeros((500, 1), jnp.int32), KEY(), 20, **how).x
    got = np.bincount(np.asarray(tokens).ravel(), minlength=4) / tokens.size
    assert not got[np.asarray(want) == 0].any()
    np.testing.assert_allclose(got, want, atol=4 * 0.5 / np.sqrt(tokens.size))  # four standard deviations


@pytest.mark.slow
def test_an_example_depends_on_its_number_in_the_batch_alone():
    model = table(np.tile(LOGITS, (4, 1)))
    two, five = (nn.generate(model, {}, {}, jnp.zeros((n, 1), jnp.int32), KEY(), 20).x for n in (2, 5))
    np.testing.assert_array_equal(five[:2], two)
    assert len({tuple(row) for row in np.asarray(five).tolist()}) == 5


CYCLE = 9 * np.eye(5)[[1, 2, 3, 4, 0]]  # the next of five tokens


@pytest.mark.parametrize(
    ("stop", "tokens", "lengths"),
    [
        (None, [[2, 3, 4, 0, 1, 2], [4, 0, 1, 2, 3, 4]], [6, 6]),
        (4, [[2, 3, 4, 0, 0, 0], [4, 0, 0, 0, 0, 0]], [3, 1]),
        ((2, 1), [[2, 0, 0, 0, 0, 0], [4, 0, 1, 0, 0, 0]], [1, 3]),
    ],
)
def test_stop(stop, tokens, lengths):
    y = nn.generate(table(CYCLE), {}, {}, jnp.array([[0, 1], [0, 3]]), None, 6, temperature=0, stop=stop)
    assert (y.x.tolist(), y.lengths.tolist()) == (tokens, lengths)


def test_nan_and_empty_prompts_do_not_pass_for_tokens():
    model = table(np.where(np.arange(5)[:, None] == 2, np.nan, CYCLE))
    prompts = nn.Padded(jnp.array([[0, 0], [4, 0], [3, 3]]), jnp.array([2, 1, 0]))
    y = nn.generate(model, {}, {}, prompts, None, 4, temperature=0)
    assert y.x.tolist() == [[1, 2, -1, 0], [0, 1, 2, -1], [0, 0, 0, 0]]
    assert y.lengths.tolist() == [3, 4, 0]


def test_another_temperature_compiles_nothing_and_zero_may_be_traced(caplog):
    model, prompt, key = table(np.tile(LOGITS, (4, 1))), jnp.zeros((2, 1), jnp.int32), KEY()
    nn.generate(model, {}, {}, prompt, key, 3, temperature=1.0, top_p=0.9)
    with jax.log_compiles():
        nn.generate(model, {}, {}, prompt, key, 3, temperature=0.7, top_p=0.5)
    assert not [record for record in caplog.records if "Compiling" in record.message and "generated" in record.message]
    y = jax.jit(lambda t: nn.generate(model, {}, {}, prompt, key, 3, temperature=t).x)(0.0)
    assert not np.asarray(y).any()


@pytest.mark.slow
def test_a_state_that_has_seen_steps_is_continued():
    params, model = params_of("rotary"), rotary(16)
    apply = jax.jit(model.apply)
    _, state = apply(params, nn.initial_state(model, PROMPTS), PROMPTS[:, :3])
    y = nn.generate(model, params, state, PROMPTS[:, 3:], None, STEPS, temperature=0)
    np.testing.assert_array_equal(y.x, nn.generate(model, params, {}, PROMPTS, None, STEPS, temperature=0).x)


@pytest.mark.slow
def test_initial_state_is_that_of_init():
    for model in (rotary(16), nn.serial(nn.embed(V, 4), nn.batch_norm(), nn.spectral_norm(nn.dense(3)))):
        state = model.init(KEY(), PROMPTS)[1]
        got = nn.initial_state(model, jax.ShapeDtypeStruct(PROMPTS.shape, jnp.int32), key=KEY())
        assert jax.tree.structure(got) == jax.tree.structure(state)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), got, state)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: nn.generate(rotary(9), params_of("rotary"), {}, PROMPTS, KEY(), STEPS),
            "generate: expected caches of t + steps - 1 = 10 steps, got 9 at blocks/attention. Make the model with a "
            "larger cache=.",
        ),
        (
            lambda: nn.generate(table(CYCLE), {}, {}, PROMPTS, None, 2),
            "generate: expected a key with temperature > 0, got None. Pass key=jax.random.key(seed).",
        ),
        (
            lambda: nn.generate(table(CYCLE), {}, {}, PROMPTS[0], KEY(), 2),
            "generate: expected a prompt of shape [n, t] with t >= 1, got int32[5]. One prompt alone is prompt[None].",
        ),
        (
            lambda: nn.generate(table(CYCLE), {}, {}, np.float32(PROMPTS), KEY(), 2),
            "generate: expected a prompt of integers [n, t], got float32[3, 5].",
        ),
        (
            lambda: nn.generate(nn.lift(lambda x: x, name="same"), {}, {}, PROMPTS, KEY(), 2),
            "generate: expected a model from tokens [3, 7] to logits [3, 7, v], got int32[3, 7].",
        ),
        (
            lambda: nn.generate(table(CYCLE), {}, {}, PROMPTS, KEY(), 2, top_k=6),
            "generate: expected top_k to be an integer >= 1 and <= 5, got 6.",
        ),
        (
            lambda: nn.generate(table(CYCLE), {}, {}, PROMPTS, KEY(), 2, stop=(1, -1)),
            "generate: expected stop to be an integer >= 0, got -1.",
        ),
    ],
)
def test_errors(call, text):
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert str(caught.value) == text
