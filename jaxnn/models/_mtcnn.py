"""MTCNN: the three networks of a cascade that detects faces."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxnn import _checks as check
from jaxnn._call import Run
from jaxnn._calls import recorded
from jaxnn._layer import Layer, lift
from jaxnn.combinators import serial
from jaxnn.layers import conv, dense, max_pool, prelu
from jaxnn.models._parts import composed

# net -> features, kernel size and size of the pool after each convolution; features of the dense layer
NETS = {
    "pnet": (((10, 3, 2), (16, 3, None), (32, 3, None)), None),
    "rnet": (((28, 3, 3), (48, 3, 3), (64, 2, None)), 128),
    "onet": (((32, 3, 3), (64, 3, 3), (64, 3, 2), (128, 2, None)), 256),
}
HEADS = {"face": 2, "box": 4, "landmarks": 10}


@recorded
def mtcnn(net: Literal["pnet", "rnet", "onet"] = "pnet", *, preset: str = "jaxnn", name: str | None = None) -> Layer:
    """A network of MTCNN, images [n, h, w, 3] -> {"face": logits [n, 2], "box": [n, 4], "landmarks": [n, 10]}.

    Convolutions with PReLU and max pools, a dense layer, and a linear head for each result. The proposal network has
    no dense layer: it evaluates every 12×12 part of an image of any size, in steps of 2 pixels, with the results
    [n, h', w', 2] and [n, h', w', 4]. The others refine its boxes. Only the output network has landmarks.

    | net | network | images | params |
    |---|---|---|---|
    | "pnet" | proposal network | any, at least 12×12 | 6 632 |
    | "rnet" | refinement network | 24×24 | 100 178 |
    | "onet" | output network | 48×48 | 389 040 |

    Logits are of no face and of a face. A box is (x1, y1, x2, y2), offsets from the corners of the input in units of
    its sides; landmarks are 5 values of x and then 5 of y in these units. Children body with conv1, prelu1, conv2, ...,
    and face, box, landmarks; paths such as `body/conv1/w`.

    Args:
      net: "pnet", "rnet" or "onet".
      preset: the default initialization of all layers.
      name: pins the name.

    Raises:
      ValueError: if there is no such net, or the image is too small.
      TypeError: if an argument is of a wrong type.

    Differences: features are flattened with the width before the height, as in the authors' code in MATLAB, so that
    published weights keep their order. In the paper all three networks have landmarks.

    Reference: Zhang et al., Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks, 2016,
    arXiv:1604.02878.

    >>> model = mtcnn("pnet")
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 12, 12, 3)))
    >>> jax.tree.map(jnp.shape, model.apply(params, state, jnp.ones((1, 40, 30, 3)))[0])
    {'box': (1, 15, 10, 4), 'face': (1, 15, 10, 2)}
    """
    check.choice(name or "mtcnn", "net", net, list(NETS))
    convs, hidden = NETS[net]
    layers: list[Any] = []
    for k, (features, size, pool) in enumerate(convs, 1):
        layers.append(conv(features, size, padding="valid", preset=preset, name=f"conv{k}"))
        layers.append(prelu(preset=preset, name=f"prelu{k}"))
        layers += [] if pool is None else [max_pool(pool, stride=2, ceil_mode=True)]
    if hidden is not None:
        layers += [lift(_flat, name="flatten"), dense(hidden, preset=preset, name="dense")]
        layers.append(prelu(preset=preset, name=f"prelu{len(convs) + 1}"))
    body = serial(*layers, name="body")
    heads = [
        conv(n, 1, preset=preset, name=head) if hidden is None else dense(n, preset=preset, name=head)
        for head, n in HEADS.items()
        if net == "onet" or head != "landmarks"
    ]

    def forward(run: Run, x: jax.Array) -> dict[str, jax.Array]:
        h = run(body, x)
        return {head.name: run(head, h) for head in heads}

    return composed("mtcnn", name, forward)


def _flat(x: jax.Array) -> jax.Array:
    """[n, h, w, c] -> [n, w · h · c]."""
    return jnp.swapaxes(x, 1, 2).reshape(x.shape[0], -1)
