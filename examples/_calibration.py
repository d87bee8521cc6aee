"""Accuracy and calibration of several runs of a network, each with a temperature of its own."""

from typing import Any

import jax
import jax.numpy as jnp
from _pictures import spread

import jaxnn as nn


def calibrated(model: nn.Layer, runs: list[tuple], valid: tuple, test: tuple) -> tuple[jax.Array, ...]:
    """Prints and returns [runs] temperatures, accuracies, and calibration errors as trained and at the temperatures.

    `runs` holds params and state of each run; `valid` and `test` are images and labels. A temperature, which divides
    the logits, is fitted on `valid`; the other figures are of `test`.
    """

    def logits(images: Any) -> jax.Array:
        return jnp.stack([nn.predict(model, *run, images) for run in runs])

    def measured(metric: Any, of_runs: jax.Array, labels: Any) -> jax.Array:
        return jax.vmap(metric, (0, None))(of_runs, jnp.asarray(labels))

    of_test, error = logits(test[0]), nn.metrics.expected_calibration_error
    t = measured(nn.metrics.calibration_temperature, logits(valid[0]), valid[1])
    before, after = (measured(error, of_test / scale, test[1]) for scale in (1.0, t[:, None, None]))
    accuracy = measured(nn.metrics.accuracy, of_test, test[1])
    print(f"accuracy {spread(accuracy)} %, temperatures {', '.join(f'{value:.2f}' for value in t)}")
    print(f"calibration error {spread(before)} % as trained, {spread(after)} % at these temperatures", flush=True)
    return t, accuracy, before, after
