"""optax: its Adam alone."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from _peers.pure import adam, size, stepping
from _peers.rows import Job, Row, gpt2_shapes


def jobs(row: Row, x: np.ndarray, y: np.ndarray) -> dict[str, Job]:
    if row.kind != "update":
        return {}
    params = [jnp.full(shape, 0.02) for shape in gpt2_shapes()]
    grads = [jnp.full(shape, 1e-3) for shape in gpt2_shapes()]

    def change(carry: Any, grads: Any) -> Any:
        params, state = carry
        updates, state = adam.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), params[-1][0]

    job = stepping(jax.jit(change, donate_argnums=0), (params, adam.init(params)), grads, size(params))
    return {"jit": job._replace(losses=None)}
