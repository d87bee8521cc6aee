"""Files that lie, made to cost much: each is a ValueError that names the file, within 2 seconds and 200 MB."""

import functools
import gc
import json
import os
import random
import secrets
import time
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _seconds import seconds_of

import jaxnn as nn
from jaxnn.io._checkpoint import load, save

SECONDS, BYTES = 2.0, 200e6
OTHERS = "It is damaged, or was not written by `save`."


@pytest.fixture
def file(tmp_path):
    return tmp_path / "run.safetensors"


def forge(file, header, data=b"", tree=None, version=1):
    """A file by hand; `tree` is the structure in its metadata."""
    if tree is not None:
        header = {"__metadata__": {"jaxnn": compact({"version": version, "tree": tree})}, **header}
    text = header if isinstance(header, bytes) else compact(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)


def compact(value):
    return json.dumps(value, separators=(",", ":"))


def entry(shape, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}


def flat(*texts, shape=(6,), leading=None, vector=("float32", {"array": "jax"})):
    """A `flat` node of one vector with 6 elements, whose layout has these texts."""
    name, node = vector
    header = {f"v/{name}": entry(list(shape), 24)}
    node = {"flat": [{"list": list(texts)}, {name: node}, *([] if leading is None else [leading])]}
    return header, bytes(24), {"dict": {"v": node}}


# Layouts, versions and numbers.


def fits(*texts, **how):
    return lambda: flat(*texts, **how)


LAYOUTS = {
    "a number of 5000 digits": fits("float32 " + "9" * 5000),
    "3000 numbers of 4000 digits": fits(*["float32" + (" " + "9" * 4000)] * 2000),
    "65 axes": fits("float32 6" + " 1" * 64),
    "past 64 bits": fits("float32 6", "float32 0 9223372036854775807 9"),
    "a matrix": fits("float32 6", shape=(1, 6)),
    "a matrix, not said so": fits("float32 3", shape=(2, 3), leading=[]),
    "other leading axes": fits("float32 3", shape=(2, 3), leading=[1]),
    "leading axes that are none": fits("float32 6", shape=(1, 6), leading=[True]),
    "leading axes of a text": fits("float32 6", leading="2"),
    "a number": fits("float32", shape=()),
    "keys": fits("float32 6", vector=("float32", {"key": "threefry2x32"})),
    "too few": fits("float32 5"),
    "too many": fits("float32 6", "float32 1"),
    "of another vector": fits("float16 6"),
    "no text": fits("float32 6", 7),
    "signed": fits("float32 -6"),
    "digits of other scripts": fits("float32 \u0666"),
    "two spaces": fits("float32  6"),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_layouts_that_lie(file, case):
    header, data, tree = LAYOUTS[case]()
    if case == "a number":
        header["v/float32"]["data_offsets"], data = [0, 4], data[:4]
    forge(file, header, data, tree)
    with pytest.raises(ValueError) as excinfo:
        load(file)
    got = "vectors with another layout"
    assert str(excinfo.value) == f"load {file} at v: expected a structure as `save` writes it, got {got}. {OTHERS}"


STACKED = {"one": (), "a row": (3,), "two axes": (2, 3)}


@pytest.mark.parametrize("case", STACKED)
@pytest.mark.parametrize("frozen", [(), "dense/*"], ids=["all trained", "some frozen"])
@pytest.mark.slow
def test_flat_states_come_back(file, case, frozen):
    trainer = nn.trainer(
        nn.serial(nn.dense(3), nn.dense(1)), nn.losses.squared_error, nn.flat(nn.adam(0.1)), frozen=frozen
    )
    batch = jnp.ones((4, 2)), jnp.ones((4, 1))
    init = lambda key: trainer.init(key, batch)  # noqa: E731
    for _ in STACKED[case]:
        init = jax.vmap(init)
    ts = init(jax.random.split(jax.random.key(0), STACKED[case]) if STACKED[case] else jax.random.key(0))
    save(file, ts)
    for like in (None, ts):
        out = load(file, like)
        assert jax.tree.structure(out) == jax.tree.structure(ts)
        assert jax.tree.all(jax.tree.map(np.array_equal, out, ts))


def test_files_before_the_leading_axes_were_kept(file):
    forge(file, *flat("float32 6"))
    assert load(file)["v"].vectors["float32"].shape == (6,)
    forge(file, *flat("float32 3", shape=(2, 3)))
    like = {"v": {"float32": jnp.zeros((2, 3))}}
    assert load(file, like)["v"]["float32"].shape == (2, 3)


@pytest.mark.parametrize("version", [True, 1.0, "1", None, [1], 2])
def test_versions(file, version):
    forge(file, {}, tree=3, version=version)
    with pytest.raises(ValueError) as excinfo:
        load(file)
    assert str(excinfo.value) == (
        f"load {file}: expected a structure of version 1, got another. A newer jaxnn may have written it."
    )


NUMBERS = [
    {"int": "0x1_0000000000000000"},
    {"int": " 0x10000000000000000"},
    {"int": "0x1"},
    {"float": "1.5"},
    {"float": "infinity"},
    {"complex": "1j "},
    {"complex": "(1+0j) "},
]


@pytest.mark.parametrize("node", NUMBERS, ids=str)
def test_a_number_has_one_text(file, node):
    forge(file, {}, tree=node)
    with pytest.raises(ValueError) as excinfo:
        load(file)
    got = f"an unreadable {next(iter(node))}"
    assert (
        str(excinfo.value) == f"load {file} at the root: expected a structure as `save` writes it, got {got}. {OTHERS}"
    )


@pytest.mark.parametrize("shape", [[2**61], [2**30, 2**30, 2], [1] * 65, [2**62, 4]], ids=str)
def test_shapes_with_orbax_that_cannot_be(file, shape):
    listed = compact({"folder": "arrays-1", "arrays": {"w": ["F32", shape]}})
    text = compact({"version": 1, "tree": {"dict": {"w": {"array": "jax"}}}})
    forge(file, {"__metadata__": {"jaxnn": text, "orbax": listed}})
    with pytest.raises(ValueError) as excinfo:
        load(file)
    assert str(excinfo.value) == (
        f"load {file}: expected a list of the arrays with orbax, as `save` writes it, got another. {OTHERS}"
    )


# Time and memory.

BAD = {"set": []}  # what is found last
MANY = 190_000


def header(text, n):
    return lambda: (b'{"a":[' + text * n + b"0]}",)


def tree(make):
    return lambda: ({}, b"", make())


def arrays(n, node, **last):
    names = [f"{i:05x}" for i in range(n)]
    return {name: entry([0, 2], 0, "U32") for name in names}, {"dict": {**dict.fromkeys(names, node), **last}}


COSTLY = {
    "a header of 60 MB": header(b"{},", 20_000_000),
    "objects": header(b"{},", MANY // 2),
    "objects of lists": header(b'{"":[]},', MANY // 4),
    "numbers of 4300 digits": header(b"9" * 4299 + b",", 2000),
    "a text of wide characters": lambda: (
        compact({"__metadata__": {"jaxnn": ""}}).replace('""', '"' + "x" * 9_900_000 + '\U0001f600"').encode(),
    ),
    "numbers": tree(lambda: {"list": [1.5] * MANY + [BAD]}),
    "strings": tree(lambda: {"list": [f"{i:06x}" for i in range(MANY)] + [BAD]}),
    "a dict": tree(lambda: {"dict": {**{f"{i:x}": 1 for i in range(MANY // 2)}, "z": BAD}}),
    "lists": tree(lambda: {"list": [{"list": []}] * (MANY // 4) + [BAD]}),
    "complex numbers": tree(lambda: {"list": [{"complex": "1j"}] * (MANY // 3) + [BAD]}),
    "a long key above many leaves": tree(lambda: {"dict": {"k" * 5_000_000: {"list": [1] * MANY}, "z": BAD}}),
    "a key above many leaves": tree(lambda: {"dict": {"k" * 600: {"list": [1] * MANY}, "z": BAD}}),
    "90 levels": tree(
        lambda: functools.reduce(lambda node, _: {"list": [node]}, range(90), {"list": [1] * (MANY - 400) + [BAD]})
    ),
    "an int of 9 million digits": tree(lambda: {"list": [{"int": "0x" + "f" * 9_000_000}, BAD]}),
    "a float of 9 million digits": tree(lambda: {"list": [{"float": "9" * 9_000_000}]}),
    "a class of many names": tree(
        lambda: {"namedtuple": ["os", "a." * 3_000_000, {f"{i:x}": 1 for i in range(MANY // 2)}]}
    ),
    "arrays": lambda: (arrays(MANY // 18, {"array": "jax"})[0], b"", arrays(MANY // 18, {"array": "jax"}, zz=BAD)[1]),
    "keys": lambda: (
        arrays(MANY // 18, {})[0],
        b"",
        arrays(MANY // 18, {"key": "threefry2x32"}, zz=BAD)[1],
    ),
    "a bool after many arrays": lambda: (
        {**arrays(MANY // 18, {})[0], "zz": entry([1], 1, "BOOL")},
        b"\2",
        arrays(MANY // 18, {"array": "jax"}, zz={"array": "jax"})[1],
    ),
    "a layout of empty arrays": lambda: flat(*["float32 0"] * (MANY - 100)),
    "a layout of many axes": lambda: flat("float32" + " 1" * 4_900_000),
}


def refused(file, like):
    """What `load` says."""
    with pytest.raises(ValueError) as excinfo:
        load(file, like)
    return str(excinfo.value)


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """The processor seconds for the largest file that is as it should be."""
    file = tmp_path_factory.mktemp("honest") / "run.safetensors"
    save(file, [1.5] * MANY)
    return seconds_of(lambda: load(file))[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "like"), [*((case, None) for case in COSTLY), ("numbers", {"a": 0}), ("arrays", {"a": 0})], ids=str
)
def test_a_lie_is_cheap_to_find(file, honest, case, like):
    forge(file, *COSTLY[case]())
    for _ in range(3):  # a busy machine may be slow once, not three times
        seconds, text = seconds_of(lambda: refused(file, like))
        if seconds < 4 * honest:
            break
    tracemalloc.start()
    try:
        refused(file, like)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "expected" in text
    assert text.startswith(f"load {file}")
    assert len(text) < 1000 + len(str(file))
    assert seconds < 4 * honest
    assert peak < BYTES


@pytest.mark.parametrize("tree", [[1] * 200_001, {str(i): np.zeros(0) for i in range(20_000)}], ids=["list", "arrays"])
def test_what_load_would_refuse_is_not_saved(file, tree):
    with pytest.raises(ValueError, match=r"save: expected a header of at most 200000 JSON values, got one of \d+"):
        save(file, tree)
    assert os.listdir(file.parent) == []


# Mutations.

HOSTILE = [True, None, -1, 2**31, 2**61, 2**63, 10**4000, 1.5, "", "jax", "9" * 5000, "float32 3", [], [[]], {}, BAD]


def sample():
    params = {"w": np.arange(6.0).reshape(2, 3), "b": jnp.ones(3, jnp.bfloat16), "on": np.array([True, False])}
    trainer = nn.trainer(nn.dense(2), nn.losses.squared_error, nn.flat(nn.adam(0.1)))
    ts = trainer.init(jax.random.key(0), (jnp.ones((4, 2)), jnp.ones((4, 2))))
    return {"p": params, "k": jax.random.key(1), "t": ts, "z": [True, None, 2**70, 1j, float("inf"), ("a/~", 3)]}


def replaced(value, draw):
    """JSON with one node, mostly a leaf, exchanged, dropped or named otherwise."""
    if not (isinstance(value, dict | list) and value) or draw.random() < 0.03:
        similar = [value * 2, value + value[:1]] if isinstance(value, str) else []
        similar = [value + 1, -value, value * 2] if type(value) is int else similar
        return draw.choice(similar if similar and draw.random() < 0.3 else HOSTILE)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    (key,) = draw.choices(keys, [len(compact(value[key])) for key in keys])
    out, how = value.copy(), draw.random()
    if how < 0.03:
        del out[key]
    elif how < 0.1 and isinstance(value, dict):
        out[draw.choice(["", "a/~1", "list", "dict", "tuple", "flat", "array", "key"])] = out.pop(key)
    else:
        out[key] = replaced(value[key], draw)
    return out


def mutated(content, draw):
    """Nodes of the header or of the JSON in it exchanged, or bytes; without the checksum, which would see it all."""
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    del header["__metadata__"]["crc32"]
    part, how = header["__metadata__"], draw.random()
    if how < 0.6:
        name = draw.choice(list(part))
        part[name] = compact(replaced(json.loads(part[name]), draw))
    elif how < 0.8:
        name = draw.choice(list(header))
        header[name] = replaced(header[name], draw)
    if how < 0.8:
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + data
    text = json.dumps(header).encode()
    out = bytearray(len(text).to_bytes(8, "little") + text + data)
    for _ in range(draw.randint(1, 4)):
        place, span = draw.randrange(len(out)), draw.randint(1, 40)
        match draw.randrange(4):
            case 0:
                out[place] = draw.randrange(256)
            case 1:
                del out[place : place + span]
            case 2:
                out[place:place] = out[place : place + span]
            case _:
                other = draw.randrange(len(out))
                out[place : place + span] = out[other : other + span]
        if not out:
            break
    return bytes(out)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # orbax drops its coroutines
@pytest.mark.parametrize(("name", "mutations"), [("run.safetensors", 2000), ("run.orbax", 200)])
def test_thousands_of_mutations(tmp_path, name, mutations):
    seed = int(os.environ.get("JAXNN_FUZZ_SEED", secrets.randbits(32)))
    print(f"JAXNN_FUZZ_SEED={seed}")
    draw, path = random.Random(seed), tmp_path / name
    file = path / "tree.safetensors" if name.endswith(".orbax") else path
    tree = sample()
    save(path, tree)
    content, refused = file.read_bytes(), 0
    for i in range(mutations):
        file.write_bytes(mutated(content, draw))
        began = time.process_time()
        try:
            load(path, draw.choice([None, tree]))
        except Exception as error:
            if not (isinstance(error, ValueError) and str(error).startswith(f"load {path}")):
                raise AssertionError(f"seed {seed}, mutation {i}: {error!r}") from error
            refused += 1
        assert time.process_time() - began < SECONDS, f"seed {seed}, mutation {i}"
    gc.collect()  # here, where the warnings are looked for
    print(f"{refused} of {mutations} refused")
    assert refused > mutations / 2
