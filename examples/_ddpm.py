"""Denoising diffusion of images in a class: training pairs, the cosine schedule, and samples in any number of steps."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import jaxnn as nn

TIMES = 1000  # steps of the diffusion
OFFSET = 0.008  # of the cosine schedule: the first steps add at least a little noise
LEAST = 1e-4  # power of the signal at the end, by which the clean image is computed
FACTOR = 2  # 28×28 pixels of 1 channel become 14×14 of 4: a quarter of the work in each convolution
CLASSES = 10
PART = 500  # images that are denoised at a time: more need more memory and are no faster


def signal(time: jax.Array) -> jax.Array:
    """ᾱ, the power of the signal after some steps, 1 at 0, by the cosine schedule."""
    angle = (time / TIMES + OFFSET) / (1 + OFFSET) * (jnp.pi / 2)
    return jnp.clip((jnp.cos(angle) / jnp.cos(OFFSET / (1 + OFFSET) * jnp.pi / 2)) ** 2, LEAST, 1)


def inputs(x: jax.Array, time: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    """Input of the network: noisy images with their class as ten planes, of zeros and ones, and the steps."""
    planes = jax.nn.one_hot(labels, CLASSES)[:, None, None, :]
    return {"x": jnp.concatenate([x, jnp.broadcast_to(planes, (*x.shape[:3], CLASSES))], -1), "time": time}


def diffuse(key: jax.Array, batch: tuple) -> tuple[dict, jax.Array]:
    """Images in [0, 1] and their classes -> (noisy images after random steps, v), as `augment` of a run.

    v = ᾱ^½ ε - (1 - ᾱ)^½ x is the noise where little of it is there, and the image, negated, where it is all noise.
    """
    images, labels = batch
    x = nn.ops.space_to_depth(2 * images - 1, FACTOR)
    for_time, for_noise = jax.random.split(key)
    time = jax.random.randint(for_time, labels.shape, 1, TIMES + 1)
    noise, a = jax.random.normal(for_noise, x.shape), signal(time)[:, None, None, None]
    return inputs(jnp.sqrt(a) * x + jnp.sqrt(1 - a) * noise, time, labels), jnp.sqrt(a) * noise - jnp.sqrt(1 - a) * x


def denoise(
    model: nn.Layer, steps: int, eta: float, params: Any, key: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Images [n, 28, 28, 1] of classes [n] from noise, and the noisy images before each step, [steps, n, 28, 28, 1].

    x̂ = a^½ x - (1 - a)^½ v, clipped to [-1, 1], ε = (x - a^½ x̂) / (1 - a)^½, x <- b^½ x̂ + (1 - b - s²)^½ ε + s z,
    s² = eta² (1 - b) / (1 - a) (1 - a / b), with ᾱ before and after the step, a and b, and z normal.

    Args:
      model: predicts v.
      steps: number of steps, at most TIMES, equally spaced.
      eta: 0 for DDIM, which adds no noise; 1 for the ancestral sampling of DDPM.
      params: of the model.
      key: of all noise.
      labels: classes of the images.
    """
    times = jnp.linspace(TIMES, 0, steps + 1).round().astype(int)
    first, later = jax.random.split(key)

    def step(x: jax.Array, now: tuple) -> tuple[jax.Array, jax.Array]:
        time, after, own = now
        a, b = signal(time), signal(after)
        v, _ = model.apply(params, {}, inputs(x, jnp.full(len(x), time), labels))
        clean = jnp.clip(jnp.sqrt(a) * x - jnp.sqrt(1 - a) * v, -1, 1)
        noise = (x - jnp.sqrt(a) * clean) / jnp.sqrt(1 - a)  # that of the clipped image
        s = eta * jnp.sqrt((1 - b) / (1 - a) * (1 - a / b))
        z = jax.random.normal(own, x.shape)
        return jnp.sqrt(b) * clean + jnp.sqrt(jnp.maximum(1 - b - s**2, 0)) * noise + s * z, x

    x = jax.random.normal(first, (len(labels), 28 // FACTOR, 28 // FACTOR, FACTOR**2))
    x, path = jax.lax.scan(step, x, (times[:-1], times[1:], jax.random.split(later, steps)))
    show = partial(nn.ops.depth_to_space, factor=FACTOR)
    return jnp.clip(show(x) / 2 + 0.5, 0, 1), jax.vmap(show)(path)


def sampler(model: nn.Layer, steps: int, eta: float = 0.0) -> Any:
    """Compiled function (params, key, labels [n]) -> images [n, 28, 28, 1]; n is at most PART or a multiple of it."""

    def sample(params: Any, key: jax.Array, labels: jax.Array) -> jax.Array:
        parts = labels.reshape(-1, min(PART, len(labels)))

        def part(given: tuple) -> jax.Array:
            return denoise(model, steps, eta, params, *given)[0]

        return jax.lax.map(part, (jax.random.split(key, len(parts)), parts)).reshape(-1, 28, 28, 1)

    return jax.jit(sample, compiler_options=nn.compiler_options())
