"""Trajectories of PyTorch's and Keras's own optimizers in float64, written to peers.json beside this file.

    python tests/optimizers/peers.py       with torch and keras installed; the tests need neither

`given` follows 50 gradients that depend on the step alone, `closed` the gradient of x² / 2 + x⁴ / 4.
"""

import json
import os
from pathlib import Path

import numpy as np

STEPS, RATE, START = 50, 0.05, [1.0, -0.5, 0.25, 2.0]
KEPT = (1, 2, 3, 5, 10, 20, 35, 50)  # steps after which x is kept
GIVEN = (np.random.default_rng(0).standard_normal((STEPS, 4)) + np.array([0, 3, 0, 0])) * [1, 1, 1e-2, 10]
# name -> (library, class, its arguments), (our optimizer, its arguments): eps so large that its place is seen
CASES = {
    "torch sgd": (("SGD", {}), ("sgd", {})),
    "torch sgd momentum": (
        ("SGD", {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
        ("sgd", {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    ),
    "torch sgd nesterov": (
        ("SGD", {"momentum": 0.9, "nesterov": True}),
        ("sgd", {"momentum": 0.9, "nesterov": True}),
    ),
    "torch rmsprop": (
        ("RMSprop", {"alpha": 0.99, "eps": 1e-3}),
        ("rmsprop", {"decay": 0.99, "eps": 1e-3, "preset": "torch"}),
    ),
    "torch rmsprop momentum": (
        ("RMSprop", {"alpha": 0.9, "eps": 1e-3, "momentum": 0.9, "weight_decay": 0.1}),
        ("rmsprop", {"decay": 0.9, "eps": 1e-3, "momentum": 0.9, "weight_decay": 0.1, "preset": "torch"}),
    ),
    "torch rmsprop centered": (
        ("RMSprop", {"alpha": 0.9, "eps": 1e-3, "momentum": 0.5, "centered": True}),
        ("rmsprop", {"decay": 0.9, "eps": 1e-3, "momentum": 0.5, "centered": True, "preset": "torch"}),
    ),
    "torch adadelta": (
        ("Adadelta", {"rho": 0.9, "eps": 1e-3}),
        ("adadelta", {"rho": 0.9, "eps": 1e-3, "preset": "torch"}),
    ),
    "torch adadelta decay": (
        ("Adadelta", {"rho": 0.95, "eps": 1e-6, "weight_decay": 0.1}),
        ("adadelta", {"rho": 0.95, "eps": 1e-6, "weight_decay": 0.1, "preset": "torch"}),
    ),
    "torch adagrad": (
        ("Adagrad", {"eps": 1e-3, "weight_decay": 0.1}),
        ("adagrad", {"initial_accumulator_value": 0.0, "eps": 1e-3, "eps_in_sqrt": False, "weight_decay": 0.1}),
    ),
    "torch adam": (("Adam", {"eps": 1e-3}), ("adam", {"eps": 1e-3, "preset": "torch"})),
    "torch adam decay": (
        ("Adam", {"betas": (0.8, 0.99), "eps": 1e-3, "weight_decay": 0.1}),
        ("adam", {"b1": 0.8, "b2": 0.99, "eps": 1e-3, "weight_decay": 0.1, "preset": "torch"}),
    ),
    "torch amsgrad": (("Adam", {"amsgrad": True, "eps": 1e-3}), ("amsgrad", {"eps": 1e-3, "preset": "torch"})),
    "torch amsgrad decay": (
        ("Adam", {"amsgrad": True, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
        ("amsgrad", {"b1": 0.8, "b2": 0.9, "eps": 1e-3, "weight_decay": 0.1, "preset": "torch"}),
    ),
    "torch nadam": (("NAdam", {"eps": 1e-3}), ("nadam", {"eps": 1e-3, "preset": "torch"})),
    "torch nadam decay": (
        ("NAdam", {"betas": (0.8, 0.99), "eps": 1e-3, "weight_decay": 0.1}),
        ("nadam", {"b1": 0.8, "b2": 0.99, "eps": 1e-3, "weight_decay": 0.1, "preset": "torch"}),
    ),
    "torch adamw": (("AdamW", {"weight_decay": 0.1}), ("adamw", {"weight_decay": 0.1})),
    "torch adamax": (("Adamax", {"eps": 1e-3}), ("adamax", {"eps": 1e-3})),
    "torch radam": (("RAdam", {"eps": 1e-12}), ("radam", {"eps": 1e-12})),
    "torch rprop": (("Rprop", {}), ("rprop", {})),
    "keras sgd": (("SGD", {"momentum": 0.9}), ("sgd", {"momentum": 0.9})),
    "keras sgd nesterov": (("SGD", {"momentum": 0.9, "nesterov": True}), ("sgd", {"momentum": 0.9, "nesterov": True})),
    "keras rmsprop": (
        ("RMSprop", {"rho": 0.9, "epsilon": 1e-3}),
        ("rmsprop", {"decay": 0.9, "eps": 1e-3, "preset": "keras"}),
    ),
    "keras rmsprop momentum": (
        ("RMSprop", {"rho": 0.9, "epsilon": 1e-3, "momentum": 0.9, "weight_decay": 0.1}),
        (
            "rmsprop",
            {"decay": 0.9, "eps": 1e-3, "momentum": 0.9, "weight_decay": 0.1, "decoupled": True, "preset": "keras"},
        ),
    ),
    "keras rmsprop centered": (
        ("RMSprop", {"rho": 0.9, "epsilon": 1e-3, "centered": True}),
        ("rmsprop", {"decay": 0.9, "eps": 1e-3, "centered": True, "preset": "keras"}),
    ),
    "keras adadelta": (
        ("Adadelta", {"rho": 0.95, "epsilon": 1e-3}),
        ("adadelta", {"rho": 0.95, "eps": 1e-3, "preset": "keras"}),
    ),
    "keras adagrad": (("Adagrad", {"epsilon": 1e-3}), ("adagrad", {"eps": 1e-3})),
    "keras adam": (("Adam", {"epsilon": 1e-3}), ("adam", {"eps": 1e-3, "preset": "keras"})),
    "keras adam decay": (
        ("Adam", {"epsilon": 1e-3, "weight_decay": 0.1}),
        ("adam", {"eps": 1e-3, "weight_decay": 0.1, "decoupled": True, "preset": "keras"}),
    ),
    "keras amsgrad": (
        ("Adam", {"amsgrad": True, "beta_2": 0.9, "epsilon": 1e-3}),
        ("amsgrad", {"b2": 0.9, "eps": 1e-3, "preset": "keras"}),
    ),
    "keras nadam": (("Nadam", {"epsilon": 1e-3}), ("nadam", {"eps": 1e-3, "preset": "keras"})),
    "keras adamw": (("AdamW", {"epsilon": 1e-12, "weight_decay": 0.1}), ("adamw", {"eps": 1e-12, "weight_decay": 0.1})),
    "keras lion": (("Lion", {}), ("lion", {"weight_decay": 0.0})),
}


def slope(x):
    """The gradient of x² / 2 + x⁴ / 4."""
    return x + x**3


def by_torch(kind, options, gradient):
    """The positions of a PyTorch optimizer."""
    import torch

    x = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    optimizer = getattr(torch.optim, kind)([x], lr=RATE, **options)
    out = []
    for t in range(STEPS):
        x.grad = torch.from_numpy(np.asarray(gradient(t, x.detach().numpy())))
        optimizer.step()
        out.append(x.detach().numpy().tolist())
    return out


def by_keras(kind, options, gradient):
    """The positions of a Keras optimizer."""
    import keras

    keras.config.set_floatx("float64")
    x = keras.Variable(np.array(START), dtype="float64")
    optimizer = getattr(keras.optimizers, kind)(learning_rate=RATE, **options)
    out = []
    for t in range(STEPS):
        optimizer.apply([keras.ops.convert_to_tensor(gradient(t, np.asarray(x)))], [x])
        out.append(np.asarray(x).tolist())
    return out


def main():
    """Run every case and write the file."""
    os.environ["KERAS_BACKEND"], os.environ["JAX_ENABLE_X64"] = "jax", "1"  # not at import: tests start processes
    import keras
    import torch

    modes = {"given": lambda t, x: GIVEN[t], "closed": lambda t, x: slope(x)}
    cases = {}
    for name, ((kind, options), _) in CASES.items():
        run = by_torch if name.startswith("torch") else by_keras
        for mode, gradient in modes.items():
            path = run(kind, options, gradient)
            cases[f"{name}, {mode}"] = [path[t - 1] for t in KEPT]
    versions = {"torch": torch.__version__.split("+")[0], "keras": keras.__version__}
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps({"versions": versions, "positions": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
