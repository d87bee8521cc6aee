"""Writes docs/_ext/handbook/libraries.json: the names of the table of `jaxnn._elsewhere` that each library has.

    .venv-bench/bin/python tools/libraries.py    # the environment of `make bench` has all of them

The pages docs/coming/ take their tables from it. A library that is not installed keeps its entry.
"""

import importlib
import json
import os
from pathlib import Path

from jaxnn._elsewhere import TABLE

os.environ.setdefault("KERAS_BACKEND", "jax")

FILE = Path(__file__).parents[1] / "docs" / "_ext" / "handbook" / "libraries.json"

# Library -> places whose names count, as module or module:class.
PLACES = {
    "torch": "torch torch:Tensor torch.nn torch.nn:Module torch.nn.functional torch.nn.init torch.nn.utils.rnn "
    "torch.nn.utils.parametrizations torch.optim torch.optim:Optimizer torch.optim.swa_utils torch.utils.data "
    "torch.utils.checkpoint torch.distributions torch.amp torch.nn.parallel torch.distributed.fsdp "
    "torch.distributed.tensor.parallel torch.distributed.pipelining",
    "keras": "keras keras:Model keras.activations keras.applications keras.callbacks keras.constraints "
    "keras.initializers keras.layers keras.layers:RNN keras.losses keras.metrics keras.ops keras.optimizers "
    "keras.regularizers keras.saving keras.utils keras.datasets.mnist",
    "linen": "flax.linen flax.linen:Module flax.linen.initializers flax.serialization flax.training.train_state",
    "nnx": "flax.nnx flax.nnx:Module",
    "equinox": "equinox equinox.nn",
    "haiku": "haiku haiku.initializers",
    "optax": "optax optax.contrib optax.losses",
}

# Names that mean something else in that library.
OTHERS = {
    "torch": {"ChannelShuffle", "Generator", "Poisson", "compile", "train"},
    "keras": {"resnet50", "vgg16", "vgg19"},
    "nnx": {"train"},
    "equinox": {"partition"},
    "haiku": {"multi_transform"},
    "optax": {"chain"},
}


def names(library: str) -> set[str]:
    """Public names in the places of a library."""
    found = set()
    for place in PLACES[library].split():
        module, _, thing = place.partition(":")
        value = importlib.import_module(module)
        found |= {name for name in dir(getattr(value, thing) if thing else value) if not name.startswith("_")}
    return found


def version(library: str) -> str:
    """Version of the package of a library."""
    return importlib.import_module({"linen": "flax", "nnx": "flax"}.get(library, library)).__version__.split("+")[0]


if __name__ == "__main__":
    table = {name for rows in TABLE.values() for row in rows for name in row.names.split()}
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    for library in PLACES:
        try:
            here = sorted(table & names(library) - OTHERS.get(library, set()))
            known[library] = {"version": version(library), "names": here}
        except ImportError as error:
            print(f"{library} keeps its entry: {error}")
    FILE.write_text(json.dumps(known, indent=1) + "\n")
