"""Leaves by glob patterns of their paths: which match, in which trees, and the errors."""

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxnn._paths import globs, matching, path_tree

PARAMS = {
    "stem": {"conv": {"w": jnp.ones((3, 3)), "b": jnp.zeros(3)}, "norm": {"scale": jnp.ones(3)}},
    "head": {"w": jnp.ones((3, 2)), "w_h": jnp.ones((2, 2))},
    "w": jnp.ones(()),
}
ALL = "head/w, head/w_h, stem/conv/b, stem/conv/w, stem/norm/scale, w"


def chosen(patterns, tree=PARAMS):
    flags = matching("l2", tree, patterns)
    assert jax.tree.structure(flags) == jax.tree.structure(tree)
    return {path for path, yes in zip(jax.tree.leaves(path_tree(tree)), jax.tree.leaves(flags), strict=True) if yes}


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("*", set(ALL.split(", "))),
        ("stem/*", {"stem/conv/b", "stem/conv/w", "stem/norm/scale"}),  # * crosses /
        ("*/w", {"head/w", "stem/conv/w"}),
        ("w", {"w"}),
        ("*w", {"head/w", "stem/conv/w", "w"}),
        ("head/w?h", {"head/w_h"}),
        ("stem/conv/[bc]", {"stem/conv/b"}),
        ("stem/conv/[!b]", {"stem/conv/w"}),
        (("head/w", "*/scale"), {"head/w", "stem/norm/scale"}),
        (["head/*", "head/w"], {"head/w", "head/w_h"}),
        ((), set()),
    ],
)
def test_what_matches(patterns, expected):
    assert chosen(patterns) == expected


def test_paths_are_those_of_the_leaves():
    assert path_tree(PARAMS)["stem"]["conv"] == {"w": "stem/conv/w", "b": "stem/conv/b"}
    assert path_tree({"a": [1.0, (2.0, 3.0)]}) == {"a": ["a/0", ("a/1/0", "a/1/1")]}


def test_nodes_without_leaves_stay():
    tree = {"a": {"w": 1.0}, "b": optax.MaskedNode(), "c": {}, "d": None}
    assert matching("l2", tree, "a/*") == {"a": {"w": True}, "b": optax.MaskedNode(), "c": {}, "d": None}
    assert matching("l2", {"b": optax.MaskedNode()}, "a/*") == {"b": optax.MaskedNode()}
    assert matching("l2", optax.MaskedNode(), "a/*") == optax.MaskedNode()


def test_shapes_and_tracers_will_do():
    shapes = jax.eval_shape(lambda: PARAMS)
    assert matching("l2", shapes, "*/w") == matching("l2", PARAMS, "*/w")
    flags = []
    jax.jit(lambda tree: flags.append(matching("l2", tree, "*/w")))(PARAMS)
    assert flags == [matching("l2", PARAMS, "*/w")]


@pytest.mark.parametrize(
    ("patterns", "error", "message"),
    [
        ("steam/*", ValueError, f"l2: expected where to match some of {ALL}, got 'steam/*'."),
        (("*/w", "HEAD/*"), ValueError, f"l2: expected where to match some of {ALL}, got 'HEAD/*'."),
        ("", ValueError, f"l2: expected where to match some of {ALL}, got ''."),
        (
            ("*/w", 3),
            TypeError,
            "l2: expected where to be a glob pattern or several, got ('*/w', 3). A pattern is a str such as 'stem/*'.",
        ),
        (
            None,
            TypeError,
            "l2: expected where to be a glob pattern or several, got None. A pattern is a str such as 'stem/*'.",
        ),
        (
            {"a"},
            TypeError,
            "l2: expected where to be a glob pattern or several, got {'a'}. A pattern is a str such as 'stem/*'.",
        ),
    ],
)
def test_errors(patterns, error, message):
    with pytest.raises(error) as caught:
        matching("l2", PARAMS, patterns)
    assert str(caught.value) == message


def test_an_error_names_the_argument():
    with pytest.raises(ValueError) as caught:
        matching("trainer", {"w": 1.0}, "b", argument="frozen")
    assert str(caught.value) == "trainer: expected frozen to match some of w, got 'b'."
    with pytest.raises(TypeError) as caught:
        globs("trainer", "frozen", b"b")
    fix = "A pattern is a str such as 'stem/*'."
    assert str(caught.value) == f"trainer: expected frozen to be a glob pattern or several, got b'b'. {fix}"
