"""Parts shared by the models: children with meaningful names, a convolution with its norm, and models as calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxnn import _checks as check
from jaxnn._call import Run
from jaxnn._errors import invalid
from jaxnn._layer import Layer, PaddedRule, layer
from jaxnn.combinators import serial
from jaxnn.layers import conv, dense
from jaxnn.types import Arrays, Key, Params, State

Norm = Callable[[], Layer]


def composed(kind: str, name: str | None, forward: Callable[[Run, Arrays], Arrays], padded: PaddedRule = None) -> Layer:
    """A layer from `forward(run, x) -> y`, which calls the children as `run(child, x)`."""

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        run = Run(params, state, key, train)
        y = forward(run, x)
        return y, run.state

    return layer(None, apply, kind, name=name, padded=padded)


def stacked(kind: str, name: str | None, *layers: Layer | Callable[..., Any]) -> Layer:
    """Layers in sequence under the default name of a model, which combinators number."""
    return serial(*layers, name=name or kind)._replace(numbered=name is None)


def named(made: Layer, name: str) -> Layer:
    """A layer under another name."""
    return made._replace(name=name, numbered=False)


def unit(conv: Layer, name: str, norm: Norm, activation: Callable[..., Any] | None = None) -> Layer:
    """A convolution, its norm and an activation in sequence, with the children conv and norm."""
    after = () if activation is None else (activation,)
    return serial(named(conv, "conv"), named(norm(), "norm"), *after, name=name)


def head(where: str, classes: int | None, preset: str) -> tuple[Layer, ...]:
    """The last layer, one logit for each class; empty for None."""
    if classes is None:
        return ()
    return (dense(check.count(where, "classes", classes), preset=preset, name="head"),)


def head_conv(where: str, classes: int, preset: str) -> Layer:
    """The last layer of a model on pixels, a 1×1 convolution with one logit for each class."""
    return conv(check.count(where, "classes", classes), 1, preset=preset, name="head")


def reshaped(where: str, y: Arrays, x: Arrays) -> Arrays:
    """Reconstructions y, [n, ...] with as many values as x, in the shape of x."""
    if y.size != x.size:
        raise invalid(where, f"a decoder with a result of {x.size // max(1, x.shape[0])} values for each example", y)
    return y.reshape(x.shape)
