"""A CNN for garments whose six convolutions have names, and its training with the params of every few steps."""

from typing import Any

import jax
import numpy as np
import optax

import jaxnn as nn

RATE, DECAY = 2e-2, 0.05  # of AdamW, at the peak of a one-cycle schedule: those of examples/vit.py
CHANNELS = (24, 24, 24, 48, 48, 48)  # three convolutions at 14×14 pixels, three at 7×7
PATHS = [f"conv{k}" for k in range(1, 7)]
LOSS = nn.losses.softmax_cross_entropy


def network() -> nn.Layer:
    """Six convolutions with batch norm and relu."""
    layers = [
        nn.serial(nn.conv(features, 3, bias=False), nn.batch_norm(), nn.relu, name=path)
        for path, features in zip(PATHS, CHANNELS, strict=True)
    ]
    layers = [nn.space_to_depth(2), *layers[:3], nn.max_pool(2), *layers[3:]]
    return nn.serial(*layers, nn.global_avg_pool(), nn.dense(10))


def train(model: nn.Layer, seed: int, data: tuple, epochs: int, batch: int, every: int) -> tuple[nn.TrainState, Any]:
    """The trained network, and its params before the first step and after every few, stacked."""
    schedule = optax.cosine_onecycle_schedule(epochs * len(data[0]) // batch, RATE)
    trainer = nn.trainer(model, LOSS, nn.adamw(schedule, weight_decay=DECAY))
    params, _ = model.init(jax.random.key(seed), data[0][:1])
    stages = [jax.tree.map(np.asarray, params)]
    keep = every, lambda look: stages.append(jax.tree.map(np.asarray, look.run.ts.params))
    how = {"epochs": epochs, "batch_size": batch, "params": params, "progress": False, "on_steps": keep}
    run = nn.drive(trainer, jax.random.key(seed), data, **how)
    return run.ts, jax.tree.map(lambda *a: np.stack(a), *stages)
