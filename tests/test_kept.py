"""Bytes that a model keeps for the backward pass, counted by hand, and policies of rematerialization."""

import jax
import jax.numpy as jnp
import pytest

import jaxnn as nn

POLICIES = jax.checkpoint_policies
COPIES, N, T, D, HEADS = 3, 2, 5, 8, 2
X = jax.ShapeDtypeStruct((N, T, D), jnp.float32)
ONE, SCORES = 4 * COPIES * N * T * D, 4 * COPIES * N * HEADS * T * T  # bytes of an array of x's shape in each copy
OFFLOADS = {
    "offloaded names": POLICIES.save_and_offload_only_these_names(
        names_which_can_be_saved=["attention"],
        names_which_can_be_offloaded=["up"],
        offload_src="device",
        offload_dst="pinned_host",
    ),
    "offloaded dots": POLICIES.offload_dot_with_no_batch_dims("device", "pinned_host"),
}


def stack(policy):
    return nn.repeat(nn.remat(nn.encoder_block(HEADS, causal=True), policy=policy), COPIES)


# policy: bytes. Products with weights are q, k, v, o and up, of four times the features; the last one is not needed.
KEPT = {
    "nothing": (None, ONE),
    "nothing_saveable": (POLICIES.nothing_saveable, ONE),
    "dots_with_no_batch_dims_saveable": (POLICIES.dots_with_no_batch_dims_saveable, ONE * (1 + 4 + 4)),
    "dots_saveable": (POLICIES.dots_saveable, ONE * (1 + 4 + 4 + 1) + SCORES),
    "names of branches": (POLICIES.save_only_these_names("attention", "up"), ONE * (1 + 1 + 4)),
    "names of attention": (POLICIES.save_only_these_names("q", "k", "v", "mixed"), ONE * (1 + 4)),
    "offloaded names": (OFFLOADS["offloaded names"], ONE * (1 + 1)),
    "offloaded dots": (OFFLOADS["offloaded dots"], ONE),
}


@pytest.mark.parametrize("name", KEPT)
def test_a_stack_keeps_what_its_policy_says(name):
    policy, expected = KEPT[name]
    assert nn.summary(stack(policy), X, train=True).kept[-1] == expected


def test_without_remat_a_stack_keeps_more_than_with_any_policy():
    block = nn.repeat(nn.encoder_block(HEADS, causal=True), COPIES)
    most = max(n for _, n in KEPT.values())
    assert nn.summary(block, X, train=True).kept[-1] > most


@pytest.mark.parametrize(("name", "moves"), [("offloaded names", (1, 1)), ("offloaded dots", (5, 5))])
def test_offloading_policies_move_values_to_the_host_and_back(name, moves):
    model = stack(OFFLOADS[name])
    params, state = jax.eval_shape(model.init, jax.random.key(0), X)
    gradient = jax.jit(jax.grad(lambda p, x: model.apply(p, state, x, train=True)[0].sum()))
    text = gradient.trace(params, X).lower(lowering_platforms=("tpu",)).as_text()
    assert tuple(text.count(f'_xla_buffer_placement = "{to}"') for to in ("pinned_host", "device")) == moves


# layer: bytes of each row, and of all
ROWS = {
    "a hidden layer and where it is above 0": (nn.serial(nn.dense(16), nn.relu, nn.dense(2)), [0, 16 * 5, 0, 16 * 5]),
    "its output and its derivative": (nn.serial(nn.dense(16), nn.tanh, nn.dense(2)), [0, 16 * 8, 0, 16 * 8]),
    "its output": (nn.serial(nn.dense(16), nn.dense(2)), [16 * 4, 0, 16 * 4]),
    "nothing but x": (nn.serial(nn.dense(2)), [0, 0]),
    "inputs of the copies, and the output": (
        nn.serial(nn.repeat(nn.remat(nn.dense(8)), 4), nn.dense(2)),
        [160, 0, 160],
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_each_layer_by_hand(name):
    model, expected = ROWS[name]
    assert list(nn.summary(model, jax.ShapeDtypeStruct((1, 8), jnp.float32), train=True).kept) == expected


def test_the_table_has_a_column():
    model, x = nn.serial(nn.dense(16), nn.dense(2)), jnp.ones((1, 8))
    table = nn.summary(model, x, train=True)
    lines = [line.split() for line in str(table).splitlines() if "\u2500" not in line]
    assert [line[-1] for line in lines] == ["kept", "64", "0", "64"]
    assert "<th>64</th>" in table._repr_html_()
    both = nn.summary(model, x, train=True, mesh="data=2")
    assert str(both).splitlines()[0].split()[-3:] == ["kept", "bytes/device", "sharding"]
    assert nn.summary(model, x).kept == ()
