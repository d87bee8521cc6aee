"""torch.optim's step, which moves the weights, for `optimizers.py`: its JSON on stdin, JSON for each row on stdout."""

import json
import sys
import time
from statistics import median
from typing import Any

import torch

MAKERS: dict[str, Any] = {
    "sgd": lambda p, **kind: torch.optim.SGD(p, 1e-3, momentum=0.9, **kind),
    "rmsprop": lambda p, **kind: torch.optim.RMSprop(p, 1e-3, alpha=0.9, **kind),
    "adadelta": lambda p, **kind: torch.optim.Adadelta(p, 1.0, **kind),
    "adam": lambda p, **kind: torch.optim.Adam(p, 1e-3, **kind),
}
FUSED = ("sgd", "adam")  # on a CPU


def seconds(name: str, kind: str, shapes: list[list[int]], rounds: int) -> list[float]:
    torch.manual_seed(0)
    params = [torch.randn(shape) for shape in shapes]
    for p in params:
        p.grad = torch.randn(p.shape)
    opt, times = MAKERS[name](params, **{kind: True}), []
    for _ in range(rounds + 2):
        start = time.perf_counter()
        opt.step()
        times.append(time.perf_counter() - start)
    return times[2:]


def main() -> None:
    given = json.load(sys.stdin)
    for where, shapes in given["sets"].items():
        size = sum(torch.Size(shape).numel() for shape in shapes)
        for name, count in given["rules"].items():
            for kind in ("foreach", "fused") if name in FUSED else ("foreach",):
                times = seconds(name, kind, shapes, given["rounds"])
                thirds = [1e3 * median(times[i::3]) for i in range(3)]
                row = {"set": where, "rule": name, "kind": kind, "torch": torch.__version__}
                row["ms"] = f"{1e3 * median(times):.2f} ({min(thirds):.2f}, {max(thirds):.2f})"
                row["rate"] = 4e-9 * count * size / median(times)
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
