"""Installs a wheel into a fresh virtual environment and trains with it, away from the checkout: smoke.py WHEEL."""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

PROGRAM = """
import sys
import jax, jax.numpy as jnp
import jaxnn as nn

assert "site-packages" in nn.__file__, nn.__file__
model = nn.serial(nn.dense(16), nn.relu, nn.dense(2))
x = jax.random.normal(jax.random.key(0), (64, 4))
y = (x.sum(axis=-1) > 0).astype(jnp.int32)
trainer = nn.trainer(model, nn.losses.softmax_cross_entropy, nn.adam(1e-2))
run = jax.jit(lambda key: nn.fit(trainer, key, (x, y), epochs=20, batch_size=16))(jax.random.key(1))
nn.save("run.safetensors", run)
first, last = run.history["train"]["loss"][0].mean(), run.history["train"]["loss"][-1].mean()
assert last < 0.5 * first, (first, last)
assert int(nn.load("run.safetensors").epoch) == 20
print(f"trained from the wheel: loss {first:.3f} to {last:.3f}")
"""

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder, "bin", "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", str(Path(sys.argv[1]).resolve())], check=True)
        subprocess.run([python, "-c", PROGRAM], check=True, cwd=folder)
