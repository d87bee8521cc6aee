"""flax.linen, trained by optax."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen import initializers

from _peers import pure
from _peers.pure import Net
from _peers.rows import DEPTH, HEADS, LENGTH, VOCABULARY, WIDTH, Job, Row


def pool(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (2, 2), (2, 2))


class MLP(nn.Module):
    sizes: Sequence[int]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for features in self.sizes[:-1]:
            x = nn.relu(nn.Dense(features)(x))
        return nn.Dense(self.sizes[-1])(x)


class CNN(nn.Module):
    widths: Sequence[int]
    hidden: Sequence[int] = ()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for features in self.widths:
            x = pool(nn.relu(nn.Conv(features, (3, 3))(x)))
        return MLP((*self.hidden, 10))(x.reshape(len(x), -1))


class Recurrent(nn.Module):
    cell: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(10)(nn.RNN(self.cell(256))(x)[:, -1])


class Block(nn.Module):
    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        d = x.shape[-1]
        mask = nn.make_causal_mask(x[..., 0])
        h = nn.LayerNorm(epsilon=1e-5)(x)
        x = x + nn.MultiHeadDotProductAttention(self.heads)(h, mask=mask)
        h = nn.LayerNorm(epsilon=1e-5)(x)
        return x + nn.Dense(d)(nn.gelu(nn.Dense(4 * d)(h)))


narrow = initializers.normal(0.02)


class GPT(nn.Module):
    length: int = LENGTH

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        embed = nn.Embed(VOCABULARY, WIDTH, embedding_init=narrow)
        x = embed(tokens) + self.param("positions", narrow, (self.length, WIDTH))
        for _ in range(DEPTH):
            x = Block(HEADS)(x)
        return embed.attend(nn.LayerNorm(epsilon=1e-5)(x))


class Body(nn.Module):
    """A block for nn.scan."""

    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        return Block(HEADS)(x), None


class DeepGPT(nn.Module):
    """48 blocks by nn.scan; the head is not tied."""

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = nn.Embed(VOCABULARY, WIDTH, embedding_init=narrow)(tokens)
        x = x + self.param("positions", narrow, (LENGTH, WIDTH))
        x, _ = nn.scan(Body, variable_axes={"params": 0}, split_rngs={"params": True}, length=48)()(x, None)
        return nn.Dense(VOCABULARY, use_bias=False)(nn.LayerNorm(epsilon=1e-5)(x))


class BERTBlock(nn.Module):
    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        d = x.shape[-1]
        x = nn.LayerNorm(epsilon=1e-12)(x + nn.MultiHeadDotProductAttention(self.heads)(x))
        h = nn.Dense(d)(nn.gelu(nn.Dense(4 * d)(x), approximate=False))
        return nn.LayerNorm(epsilon=1e-12)(x + h)


class BERT(nn.Module):
    """Tokens to the vectors of tokens and of the whole."""

    @nn.compact
    def __call__(self, tokens: jax.Array) -> Any:
        positions = self.param("positions", narrow, (512, 384))
        x = nn.Embed(30522, 384, embedding_init=narrow)(tokens) + positions[: tokens.shape[1]]
        x = x + nn.Embed(2, 384, embedding_init=narrow)(jnp.zeros_like(tokens))
        x = nn.LayerNorm(epsilon=1e-12)(x)
        for _ in range(6):
            x = BERTBlock(12)(x)
        return x, jnp.tanh(nn.Dense(384)(x[:, 0]))


class Unit(nn.Module):
    """A convolution and its batch norm."""

    features: int
    size: int = 3
    stride: int = 1
    groups: int = 1
    train: bool = True
    padding: Any = "SAME"
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, strides = (self.size,) * 2, (self.stride,) * 2
        how: dict[str, Any] = {"use_bias": False, "feature_group_count": self.groups, "padding": self.padding}
        x = nn.Conv(self.features, kernel, strides, **how)(x)
        return nn.BatchNorm(not self.train, momentum=0.9, epsilon=self.epsilon)(x)


class ResNet20(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        x = nn.relu(Unit(16, train=train)(x))
        for features, first in ((16, 1), (32, 2), (64, 2)):
            for stride in (first, 1, 1):
                h = nn.relu(Unit(features, stride=stride, train=train)(x))
                h = Unit(features, train=train)(h)
                skip = x[:, ::stride, ::stride]
                skip = jnp.pad(skip, ((0, 0), (0, 0), (0, 0), (0, features - skip.shape[-1])))
                x = nn.relu(h + skip)
        return nn.Dense(10)(x.mean((1, 2)))


class ResNet50(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        x = nn.relu(Unit(64, 7, 2, train=train, padding=[(3, 3), (3, 3)])(x))
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for i, blocks in enumerate((3, 4, 6, 3)):
            for j in range(blocks):
                width, stride = 64 * 2**i, 2 if i and j == 0 else 1
                h = nn.relu(Unit(width, 1, train=train)(x))
                h = nn.relu(Unit(width, 3, stride, train=train, padding=[(1, 1), (1, 1)])(h))
                h = Unit(4 * width, 1, train=train)(h)
                x = nn.relu(h + (x if j else Unit(4 * width, 1, stride, train=train)(x)))
        return nn.Dense(1000)(x.mean((1, 2)))


class Lite0(nn.Module):
    """EfficientNet-Lite0; the stages are kernel size, stride, expansion, features and blocks."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        stages = [(3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3)]
        stages += [(5, 2, 6, 192, 4), (3, 1, 6, 320, 1)]

        def unit(*sizes: int, **how: int) -> Unit:
            return Unit(*sizes, train=train, epsilon=1e-3, **how)

        x = nn.relu6(unit(32, 3, 2)(x))
        for size, first, expansion, features, blocks in stages:
            for j in range(blocks):
                inner, stride = x.shape[-1] * expansion, 1 if j else first
                h = nn.relu6(unit(inner, 1)(x)) if expansion > 1 else x
                h = nn.relu6(unit(inner, size, stride, groups=inner)(h))
                h = unit(features, 1)(h)
                x = x + h if h.shape == x.shape else h
        return nn.Dense(1000)(nn.relu6(unit(1280, 1)(x)).mean((1, 2)))


class Double(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(2):
            x = nn.relu(nn.Conv(self.features, (3, 3))(x))
        return x


class UNet(nn.Module):
    widths: Sequence[int] = (16, 32, 64, 128)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        skips = []
        for width in self.widths:
            skips.append(Double(width)(x))
            x = pool(skips[-1])
        x = Double(2 * self.widths[-1])(x)
        for width, skip in zip(reversed(self.widths), reversed(skips), strict=True):
            x = nn.ConvTranspose(width, (2, 2), (2, 2))(x)
            x = Double(width)(jnp.concatenate([skip, x], -1))
        return nn.Conv(2, (1, 1))(x)


NETS: dict[str, Callable[..., nn.Module]] = {
    "mlp": lambda: MLP((512, 512, 10)),
    "tiny": lambda: MLP((32, 10)),
    "chain": lambda *sizes: MLP(sizes[1:]),
    "cnn": lambda: CNN((32, 64), (128,)),
    "small_cnn": lambda: CNN((16, 32)),
    "lstm": lambda: Recurrent(nn.OptimizedLSTMCell),
    "gru": lambda: Recurrent(nn.GRUCell),
    "gpt": GPT,
    "gpt48": DeepGPT,
    "resnet20": ResNet20,
    "unet": UNet,
    "resnet50": ResNet50,
    "lite0": Lite0,
    "bert": BERT,
}
NORMED = (ResNet20, ResNet50, Lite0)


def net(module: nn.Module) -> Net:
    """The module's functions; its batch statistics are the state."""

    def init(key: jax.Array, x: jax.Array) -> Any:
        variables = dict(module.init(key, x))
        return variables.pop("params"), variables

    if not isinstance(module, NORMED):
        return Net(
            init,
            lambda params, state, x: (module.apply({"params": params}, x), state),
            lambda params, state, x: module.apply({"params": params}, x),
        )
    return Net(
        init,
        lambda params, state, x: module.apply({"params": params, **state}, x, mutable=["batch_stats"]),
        lambda params, state, x: module.apply({"params": params, **state}, x, train=False),
    )


def jobs(row: Row, x: np.ndarray, y: np.ndarray) -> dict[str, Job]:
    return pure.jobs(net(NETS[row.net](*row.sizes)), row, x, y) if row.net in NETS and row.kind != "tokens" else {}
