"""The table of a model: numbers counted by hand, the order of the calls, and no memory for any array."""

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import jaxnn as nn


def shape(*sizes, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(sizes, dtype)


def branchy(x):
    return jax.lax.cond(True, lambda x: x @ jnp.ones((4, 4)), lambda x: x + 1, x)


# A row is (path, output, params, bytes, FLOPs), the last one that of the whole.
@pytest.mark.parametrize(
    ("model", "x", "rows"),
    [
        (
            nn.serial(nn.dense(16), nn.relu, nn.dense(2)),
            shape(8, 4),
            [
                ("dense", "float32[8, 16]", 4 * 16 + 16, 4 * 80, 2 * 8 * 4 * 16 + 8 * 16),
                ("relu", "float32[8, 16]", 0, 0, 8 * 16),
                ("dense_1", "float32[8, 2]", 16 * 2 + 2, 4 * 34, 2 * 8 * 16 * 2 + 8 * 2),
                ("total", "float32[8, 2]", 114, 456, 1152 + 128 + 528),
            ],
        ),
        (
            nn.serial(nn.conv(8, 3, bias=False), nn.conv(4, 3, stride=2), nn.flatten(), nn.dense(10, bias=False)),
            shape(5, 12, 12, 3),
            [
                ("conv", "float32[5, 12, 12, 8]", 216, 864, 2 * 5 * 144 * 8 * 27),
                ("conv_1", "float32[5, 6, 6, 4]", 292, 1168, 2 * 5 * 36 * 4 * 72 + 5 * 36 * 4),
                ("flatten", "float32[5, 144]", 0, 0, 0),
                ("dense", "float32[5, 10]", 1440, 5760, 2 * 5 * 144 * 10),
                ("total", "float32[5, 10]", 1948, 7792, 311040 + 104400 + 14400),
            ],
        ),
        (
            nn.serial(nn.conv(6, 3, groups=2, bias=False), nn.conv(6, (1, 1), bias=False)),
            shape(1, 4, 4, 4),
            [
                ("conv", "float32[1, 4, 4, 6]", 9 * 2 * 6, 432, 2 * 16 * 6 * 9 * 2),
                ("conv_1", "float32[1, 4, 4, 6]", 36, 144, 2 * 16 * 6 * 6),
                ("total", "float32[1, 4, 4, 6]", 144, 576, 3456 + 1152),
            ],
        ),
        (
            nn.serial(nn.repeat(nn.serial(nn.dense(4), nn.relu, name="block"), 6), name="net"),
            shape(8, 4),
            [
                ("block", "float32[8, 4]", 6 * 20, 480, 6 * (2 * 8 * 16 + 32 + 32)),
                ("block/dense", "float32[8, 4]", 6 * 20, 480, 6 * (2 * 8 * 16 + 32)),
                ("block/relu", "float32[8, 4]", 0, 0, 6 * 32),
                ("total", "float32[8, 4]", 120, 480, 1920),
            ],
        ),
        (
            nn.serial(nn.remat(nn.dense(3, bias=False)), nn.residual(nn.dense(3, bias=False))),
            shape(2, 3),
            [
                ("dense", "float32[2, 3]", 9, 36, 2 * 2 * 9),
                ("dense_1", "float32[2, 3]", 9, 36, 2 * 2 * 9 + 6),
                ("total", "float32[2, 3]", 18, 72, 78),
            ],
        ),
        (
            nn.serial(nn.cast(nn.dense(3, bias=False), jnp.bfloat16), name="half"),
            shape(2, 3, dtype=jnp.bfloat16),
            [("dense", "bfloat16[2, 3]", 9, 36, 36), ("total", "bfloat16[2, 3]", 9, 36, 36)],
        ),
        (
            nn.serial(branchy, nn.lift(lambda x: x.sum(axis=0), name="sum")),
            shape(2, 4),
            [
                ("branchy", "float32[2, 4]", 0, 0, 2 * 2 * 16),
                ("sum", "float32[4]", 0, 0, 8),
                ("total", "float32[4]", 0, 0, 72),
            ],
        ),
        (nn.dense(3), shape(2, 4), [("total", "float32[2, 3]", 15, 60, 2 * 2 * 12 + 6)]),
        (nn.repeat(nn.dense(4), 3), shape(2, 4), [("total", "float32[2, 4]", 60, 240, 3 * (2 * 2 * 16 + 8))]),
        (nn.serial(), shape(2, 4), [("total", "float32[2, 4]", 0, 0, 0)]),
    ],
)
def test_numbers_by_hand(model, x, rows):
    table = nn.summary(model, x)
    assert [tuple(row) for row in (*table.rows, table.total)] == rows


def test_bytes_count_params_and_state():
    (row,) = nn.summary(nn.serial(nn.batch_norm()), shape(8, 5)).rows
    assert (row.params, row.bytes) == (2 * 5, 4 * 4 * 5)


def test_a_layer_that_runs_twice_is_one_row_with_the_work_of_both():
    def apply(params, state, x, *, key=None, train=False):
        a, state = nn.call(encoder, "encoder", params, state, x[0], key=key, train=train)
        b, state = nn.call(encoder, "encoder", params, state, x[1], key=key, train=train)
        return a - b, state

    encoder = nn.dense(3, bias=False)
    table = nn.summary(nn.serial(nn.layer(None, apply, "twins")), (shape(2, 4), shape(2, 4)))
    assert [(row.path, row.params, row.flops) for row in (*table.rows, table.total)] == [
        ("twins", 12, 2 * 48 + 6),
        ("twins/encoder", 12, 2 * 48),
        ("total", 12, 2 * 48 + 6),
    ]


def test_parents_stand_before_children_in_the_order_of_the_calls():
    inner = nn.serial(nn.dense(4), nn.relu, name="a")
    model = nn.serial(nn.dense(4, name="z"), nn.residual(inner, skip=nn.dense(4)), nn.dense(1, name="b"))
    assert [row.path for row in nn.summary(model, shape(2, 4)).rows] == ["z", "a", "a/skip", "a/dense", "a/relu", "b"]


def test_an_array_counts_as_its_shape():
    model = nn.serial(nn.dense(3), nn.relu)
    assert nn.summary(model, np.full((2, 4), np.nan, np.float32)) == nn.summary(model, shape(2, 4))


TABLE = """\
layer      output         params  bytes   FLOPs
───────────────────────────────────────────────
block      float32[2, 40]  1 640  6 560   6 560
  dense    float32[2, 40]  1 640  6 560   6 480
  relu     float32[2, 40]      0      0      80
head       float32[2, 1]      41    164     162
───────────────────────────────────────────────
total      float32[2, 1]   1 681  6 724   6 722"""


def test_it_prints_as_a_table():
    table = nn.summary(
        nn.serial(nn.serial(nn.dense(40), nn.relu, name="block"), nn.dense(1, name="head")), shape(2, 40)
    )
    text = str(table)
    assert repr(table) == text
    lines = text.splitlines()
    assert [line.split() for line in lines if "─" not in line] == [
        line.split() for line in TABLE.splitlines() if "─" not in line
    ]
    assert [line.startswith("  ") for line in lines] == [False] * 3 + [True, True] + [False] * 3
    assert len({len(line) for line in lines}) == 1  # numbers end on one column
    assert all(line == line.rstrip() for line in lines)


def test_it_shows_as_html():
    table = nn.summary(nn.serial(nn.serial(nn.dense(3, bias=False), name="a"), name="net"), shape(2, 4))
    page = table._repr_html_()
    style = ' style="text-align:left;white-space:pre"'
    head = f"<th{style}>layer</th><th{style}>output</th><th>params</th><th>bytes</th><th>FLOPs</th>"
    numbers = "<td>12</td><td>48</td><td>48</td>"
    assert page == (
        f"<table><tr>{head}</tr>"
        f"<tr><td{style}>a</td><td{style}>float32[2, 3]</td>{numbers}</tr>"
        f"<tr><td{style}>  dense</td><td{style}>float32[2, 3]</td>{numbers}</tr>"
        f"<tr><th{style}>total</th><th{style}>float32[2, 3]</th>{numbers.replace('td', 'th')}</tr></table>"
    )


def test_nothing_is_computed_for_a_model_that_no_machine_holds():
    model = nn.serial(nn.dense(10**6), nn.relu, nn.repeat(nn.residual(nn.dense(10**6)), 100), nn.dense(10, name="head"))
    live = len(jax.live_arrays())
    tracemalloc.start()
    table = nn.summary(model, shape(32, 10**6))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert table.total.params == 101 * (10**12 + 10**6) + 10**7 + 10
    assert table.total.bytes == 4 * table.total.params
    assert table.rows[2].flops == 100 * (2 * 32 * 10**12 + 2 * 32 * 10**6)
    assert peak < 2**25
    assert len(jax.live_arrays()) <= live + 1  # the key


def test_nothing_runs():
    def explode(x):
        return jax.pure_callback(lambda v: 1 / 0, x, x)

    model = nn.serial(explode, nn.dense(3))
    assert nn.summary(model, shape(2, 4)).total.output == "float32[2, 3]"


def test_parts_on_a_mesh_of_devices_that_do_not_exist():
    block = nn.serial(nn.dense(8, name="up"), nn.batch_norm(), nn.dense(6, name="down"), name="block")
    rules = [nn.sharding.tensor_parallel(), nn.sharding.fsdp()]
    table = nn.summary(nn.repeat(block, 5), shape(4, 6), mesh="data=3, model=2", rules=rules)
    sized = {row.path: part.bytes for row, part in zip((*table.rows, table.total), table.parts, strict=True)}
    up = 4 * 5 * (6 * 8 // 6 + 8 // 2)
    norm = 4 * 5 * 4 * 8  # 3 does not divide 8 features
    down = 4 * 5 * (6 * 8 // 6 + 6 // 3)
    assert sized == {"up": up, "batch_norm": norm, "down": down, "total": up + norm + down}
    assert table.parts[0].specs == {"b": P(None, "model"), "w": P(None, "data", "model")}
    first, *_, last = (line.split("  ") for line in str(table).splitlines())
    assert [cell.strip() for cell in first[-2:]] == ["bytes/device", "sharding"]
    assert last[-1].replace(" ", "") == str(up + norm + down)
    assert "w [-, data, model]" in str(table)
    assert "w [-, data, model]" in table._repr_html_()


@pytest.mark.parametrize(
    ("mesh", "error", "text"),
    [
        (3, TypeError, "summary: expected mesh to be a mesh, or its axes such as 'data=4, model=2', got 3."),
        ("data=-1", ValueError, "summary: expected sizes >= 1 of axes without devices, got 'data=-1'."),
    ],
)
def test_wrong_meshes(mesh, error, text):
    with pytest.raises(error) as caught:
        nn.summary(nn.dense(3), shape(2, 4), mesh=mesh)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("model", "x", "error", "text"),
    [
        (3, shape(2, 4), TypeError, "summary: expected a Layer or a function of one input, got 3."),
        (
            nn.serial(nn.dense(3)),
            [2],
            TypeError,
            "summary: expected x to be arrays or shapes, got [2]. Convert it: np.asarray(x, np.float32).",
        ),
        (
            nn.serial(nn.dense(3)),
            (2, 4),
            TypeError,
            "summary: expected x to be arrays or shapes, got (2, 4). "
            "For its shape alone pass jax.ShapeDtypeStruct((2, 4), jnp.float32).",
        ),
        (
            nn.serial(nn.serial(nn.dense(3), nn.batch_norm(), nn.conv(3, 3), name="block")),
            shape(2, 4),
            ValueError,
            "block/conv: expected x of shape [n, *space, c], got float32[2, 3].",
        ),
    ],
)
def test_wrong_calls(model, x, error, text):
    with pytest.raises(error) as caught:
        nn.summary(model, x)
    assert str(caught.value) == text
