"""A prediction job in a process of its own, which continues where a killed one ended.

    python examples/_job.py FOLDER [--short]

FOLDER holds `net.safetensors`, params and state of `network`; `images.bin`, float32 [COUNT, 28, 28, 1]; `logits.bin`,
float32 [COUNT, 10], which the job writes; and `progress.json`, the record of the images done.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from _pictures import SHORT

import jaxnn as nn

GIGABYTES = 0.1 if SHORT else 10  # float32 pixels, as a network takes them: 3.2 million images
SHAPE = (28, 28, 1)
COUNT = int(GIGABYTES * 1e9 / (4 * np.prod(SHAPE)))
CHUNK = 1 << (12 if SHORT else 15)  # images between two records of progress, 103 MB of pixels
BATCH = 512


def network() -> nn.Layer:
    """Logits of images [n, 28, 28, 1]."""
    blocks = [(nn.conv(f, 3, bias=False), nn.batch_norm(), nn.relu, nn.max_pool(2)) for f in (16, 32)]
    return nn.serial(nn.space_to_depth(2), *(part for block in blocks for part in block), nn.flatten(), nn.dense(10))


def anonymous() -> int:
    """Memory of this process in MB without the pages of files, which the system takes back when it needs them."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) // 1024


def work(home: Path) -> None:
    """Writes the logits of all images, chunk by chunk, from where the last process ended."""
    params, state = nn.load(home / "net.safetensors")
    record = home / "progress.json"
    done = json.loads(record.read_text())["done"] if record.exists() else 0
    logits = np.memmap(home / "logits.bin", np.float32, "r+", shape=(COUNT, 10))
    memory = []
    while done < COUNT:
        end = min(done + CHUNK, COUNT)
        start = time.perf_counter()
        x = np.memmap(home / "images.bin", np.float32, "r", 4 * done * int(np.prod(SHAPE)), (end - done, *SHAPE))
        logits[done:end] = nn.predict(network(), params, state, x, batch_size=BATCH)
        logits.flush()  # the record follows the numbers, so a killed process loses a chunk at most
        memory.append(anonymous())
        record.with_suffix(".new").write_text(json.dumps({"done": end, "memory": memory}))
        os.replace(record.with_suffix(".new"), record)
        print(f"{end:9,} of {COUNT:,}, {(end - done) / (time.perf_counter() - start):,.0f} images/s", flush=True)
        done = end


def run(home: Path, until: float = np.inf) -> dict[str, Any]:
    """The record after a process has done the job, or was killed by SIGKILL after that many images."""
    command = [sys.executable, __file__, str(home), *["--short"] * SHORT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            print(f"\r{line.rstrip()}", end="", flush=True)
            if int(line.split()[0].replace(",", "")) >= until:
                process.kill()
                break
    print()
    assert process.returncode == (0 if until == np.inf else -signal.SIGKILL)
    return json.loads((home / "progress.json").read_text())


if __name__ == "__main__":
    nn.cache_programs()  # the process after a kill compiles nothing again
    nn.reuse_memory()
    work(Path(sys.argv[1]))
