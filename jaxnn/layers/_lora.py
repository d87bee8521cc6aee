"""Low-rank changes of a layer's weights, which alone are trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from zlib import crc32

import jax
import jax.numpy as jnp

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._errors import invalid
from jaxnn._keys import fold_in, quick
from jaxnn._layer import Layer, as_layer, wrap
from jaxnn._paths import globs, matching, path_tree
from jaxnn.types import Arrays, Key, Params, State


@recorded
def lora(child: Layer, *, rank: int = 4, where: str | Sequence[str] = "*") -> Layer:
    """LoRA: weights w [..., out] of a layer or model become w + a b, with a [inputs, rank] and b [rank, out].

    `inputs` is the product of all axes of w but the last, so that the kernel of a convolution is one matrix. a is
    normal with standard deviation inputs ** -1/2 and b is 0: initially the child computes the same function.

    Params {"base": those of the child, "lora": {path: {"a", "b"}}}. Pretrained params go to "base", which is frozen by
    `nn.trainer(..., frozen="base/*")`. `merge_lora` gives params of the child again.

    Args:
      child: a layer, or a whole model.
      rank: rank of the change of each matrix, an integer >= 1.
      where: glob pattern or patterns of the paths of the weights to change, such as "block_*/attention/w_[qv]". Params
        with fewer than two axes are left out. Layers inside `repeat` have one more axis: use `repeat(lora(layer), n)`.

    Raises:
      ValueError: if a pattern matches no path, if no param that matches has two axes, or `rank` is out of range.

    Differences: peft multiplies a b by alpha / rank. With Adam this factor does about what another learning rate does
    (section 4.1 of the paper), so there is none here; the two agree at alpha = rank. peft stores a and b transposed.

    Reference: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021, arXiv:2106.09685.

    >>> import jaxnn as nn
    >>> model = nn.lora(nn.serial(nn.dense(8), nn.relu, nn.dense(3)), rank=2, where="dense/*")
    >>> params, state = model.init(jax.random.key(0), jnp.ones((5, 4)))
    >>> jax.tree.map(jnp.shape, params["lora"])
    {'dense': {'w': {'a': (4, 2), 'b': (2, 8)}}}
    >>> optimizer = nn.adam(1e-3)
    >>> trainer = nn.trainer(model, nn.losses.softmax_cross_entropy, optimizer, frozen="base/*")
    """
    child = as_layer(child, "lora")
    rank = check.count("lora", "rank", rank)
    globs("lora", "where", where)

    def init(key: Key, x: Arrays) -> tuple[Params, State]:
        own = fold_in(key, 0)
        base, state = child.init(key, x)
        chosen = matching("lora", base, where)
        chosen = jax.tree.map(lambda chosen, w: chosen and jnp.ndim(w) > 1, chosen, base)
        if not any(jax.tree.leaves(chosen)):
            fix = "Pass a layer with weights, and where= as a pattern of their paths."
            told = ", ".join(jax.tree.leaves(path_tree(base))) or "none"
            raise invalid("lora", "a child with params of two axes or more", told=told, fix=fix)
        return {"base": base, "lora": _factors(own, base, chosen, rank)}, state

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        return child.apply(_changed(params["base"], params["lora"]), state, x, key=key, train=train)

    return wrap(child, init, apply)


def merge_lora(params: Params) -> Params:
    """Params with every {"base", "lora"} of `lora` replaced by the changed weights w + a b: those without the wrapper.

    Args:
      params: params of a `lora` layer, or of a model with such layers inside.

    >>> import jaxnn as nn
    >>> child, x = nn.dense(3), jnp.ones((5, 4))
    >>> model = nn.lora(child)
    >>> params, state = model.init(jax.random.key(0), x)
    >>> params["lora"]["w"]["b"] += 1
    >>> bool(jnp.allclose(child.apply(merge_lora(params), state, x)[0], model.apply(params, state, x)[0], atol=1e-5))
    True
    """
    if not isinstance(params, dict):
        return params
    inner = {name: merge_lora(node) for name, node in params.items()}
    return _changed(inner["base"], inner["lora"]) if inner.keys() == {"base", "lora"} else inner


def _factors(key: Key, base: Params, chosen: Params, rank: int) -> dict[str, Any]:
    """{"a", "b"} at the paths of the chosen weights; other paths are absent."""
    found = {}
    for name, node in base.items():
        own = fold_in(key, crc32(name.encode()))
        if isinstance(node, dict):
            if inner := _factors(own, node, chosen[name], rank):
                found[name] = inner
        elif chosen[name]:
            inputs, features = math.prod(node.shape[:-1]), node.shape[-1]
            a = jax.random.normal(quick(own), (inputs, rank), node.dtype) * max(inputs, 1) ** -0.5
            found[name] = {"a": a, "b": jnp.zeros((rank, features), node.dtype)}
    return found


def _changed(base: Params, factors: Params) -> dict[str, Any]:
    """The child's params with w + a b in place of each w that has factors."""
    changed = dict(base)
    for name, node in factors.items():
        if isinstance(base[name], dict):
            changed[name] = _changed(base[name], node)
        else:
            w, a, b = map(jnp.asarray, (base[name], node["a"], node["b"]))
            changed[name] = w + (a @ b).reshape(w.shape).astype(w.dtype)  # of a stack of `repeat`, each layer's own
    return changed
