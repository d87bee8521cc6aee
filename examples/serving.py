"""Serving: a digit classifier exported to a file, run by a server without jaxnn, with a page to draw on.

    python examples/serving.py [folder for the file and the picture, by default out] [--short]
    python examples/_digit_server.py out/digits.bin      # then open http://127.0.0.1:8000/ and draw

Three convolutional networks are trained on 3500 MNIST digits with random rotations, shifts, zooms and shears. Their
mean probability is calibrated on 500 more by one temperature, and exported by `nn.export` as one file. The server,
`_digit_server.py`, loads the file in a process that imports only jax and NumPy. Its page centres and scales a drawing
as in MNIST, and shows the answer with its confidence. Bad requests get a status 4xx and a message. Accuracy on 1000
test digits, mean ± deviation of three seeds, and calibration error (15 bins), both in percent:

                                  accuracy    calibration error
    support vector machine            96.6
    one network                 98.2 ± 1.0      0.7 ± 0.2, at a temperature of its own 0.8 ± 0.3
    three networks together           99.0            1.0, at the temperature 0.60     0.2

The baseline is scikit-learn's support vector machine, trained on the same digits without augmentation and on those for
the temperature.

Eight clients then send requests without a pause. One server computes one image at a time; the other collects images for
2 ms, or until there are eight:

                  requests a second   half within   99 % within
    one by one                 1143        6.4 ms       30.5 ms
    in batches                 1106        6.7 ms       21.9 ms

Without HTTP the networks compute 3406 images a second one at a time and 6450 in batches of eight. But they need only a
third of the time of a request; HTTP and JSON in Python take the rest. So batches, of 5.2 images on average, do not
raise the throughput here; the aim was a factor of 1.2. They shorten the longest waits. Batches pay off for larger
networks or faster servers.

One network is calibrated as trained. The mean of three is not: its accuracy is higher than its confidence, and a
temperature below 1 corrects that. The run takes 153 s, of which 49 s of processor time are in this process.

Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks, 2017, arXiv:1706.04599.
"""

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _calibration import calibrated
from _pictures import SHORT, clock, folder, sheet, subplots
from sklearn.svm import SVC

import jaxnn as nn

nn.reuse_memory()

SERVER = Path(__file__).with_name("_digit_server.py")
TEST, VALID = 1000, 500  # of 5000 digits; the temperature is fitted on VALID
SEEDS = 2 if SHORT else 3
EPOCHS, BATCH, RATE = 1 if SHORT else 15, 50, 2e-3  # of Adam; not tuned
MOVES = nn.augment.affine(degrees=15, fraction=0.07, strength=0.15, shear=15)  # as hands differ
CLIENTS = 8
REQUESTS = 20 if SHORT else 200  # of a client in a round
ROUNDS = 1 if SHORT else 5  # of each server, in turn
SETTINGS = {"one by one": ("--batch", "1", "--wait", "0"), "in batches": ("--batch", str(CLIENTS), "--wait", "2")}
LEAST_GAIN = 0.01  # accuracy over the support vector machine's, fixed before the full run


def network() -> nn.Layer:
    """Logits of digits [n, 28, 28, 1]."""
    blocks = [(nn.conv(f, 3), nn.relu, nn.max_pool(2)) for f in (16, 32)]
    return nn.serial(*(part for block in blocks for part in block), nn.flatten(), nn.dense(128), nn.relu, nn.dense(10))


def trained(key: jax.Array, train: tuple) -> Any:
    """Params of a run on augmented digits."""
    trainer = nn.trainer(network(), nn.losses.softmax_cross_entropy, nn.adam(RATE))
    return nn.fit(trainer, key, train, epochs=EPOCHS, batch_size=BATCH, augment=nn.augment.batched(MOVES)).ts.params


@contextmanager
def served(file: Path, *settings: str) -> Iterator[int]:
    """A server in a process of its own, and its port."""
    command = [sys.executable, str(SERVER), str(file), "--port", "0", *settings]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline().rstrip("/\n").rpartition(":")[2])
        finally:
            process.kill()


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    """Status and JSON of a request."""
    connection.request(method, path, body)
    reply = connection.getresponse()
    return reply.status, json.loads(reply.read())


def load(port: int, bodies: list[bytes]) -> tuple[np.ndarray, float]:
    """Seconds of each request by CLIENTS at a time, and requests per second."""

    def client(number: int) -> list[float]:
        connection, seconds = http.client.HTTPConnection("127.0.0.1", port), []
        connection.connect()
        for k in range(REQUESTS):
            start = time.perf_counter()
            status, _ = ask(connection, "POST", "/classify", bodies[(number * REQUESTS + k) % len(bodies)])
            seconds.append(time.perf_counter() - start)
            assert status == 200
        connection.close()
        return seconds

    start = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        seconds = np.concatenate(list(pool.map(client, range(CLIENTS))))
    return seconds, CLIENTS * REQUESTS / (time.perf_counter() - start)


def picture(path: Path, seconds: dict[str, np.ndarray], logits: np.ndarray, t: float, test: tuple) -> None:
    """Response times, confidence against accuracy, and the errors of the network."""
    figure, (left, middle, right) = subplots(1, 3, (16, 5), width_ratios=(1, 1, 1.5))
    for (name, of), colour in zip(seconds.items(), ("tab:red", "tab:blue"), strict=True):
        left.plot(1000 * np.sort(of), np.arange(1, len(of) + 1) / len(of), color=colour, label=name)
    left.set(xlabel="response time, ms", ylabel="fraction of requests answered", xscale="log")
    left.set_xticks(ticks := (2, 5, 10, 20, 50, 100), labels=map(str, ticks))
    left.minorticks_off()
    left.set_title(f"{CLIENTS} clients")
    for scale, label, colour in ((1.0, "as trained", "tab:red"), (t, f"temperature {t:.2f}", "tab:blue")):
        p = np.asarray(jax.nn.softmax(logits / scale))
        order = np.array_split(p.max(1).argsort(), 10)
        right_of = p.argmax(1) == test[1]
        x, y = ([100 * of[rows].mean() for rows in order] for of in (p.max(1), right_of))
        middle.plot(x, y, "o-", ms=4, color=colour, label=label)
    middle.axline((100, 100), slope=1, color="0.6", ls=":")
    middle.set(xlabel="mean confidence of a tenth of the digits, %", ylabel="accuracy, %")
    middle.set_title("calibration on test digits")
    for axes in (left, middle):
        axes.grid(alpha=0.3)
        axes.legend()
    wrong = np.flatnonzero(p.argmax(1) != test[1])
    wrong = wrong[np.argsort(-p[wrong].max(1))][:18]
    right.imshow(sheet(1 - test[0][wrong], 6, gap=14), cmap="gray", vmin=0, vmax=1)
    for k, i in enumerate(wrong):
        text = f"{p[i].argmax()} ({p[i].max():.0%}), not {test[1][i]}"
        right.text(k % 6 * 42 + 14, k // 6 * 42 + 34, text, ha="center", va="center", fontsize=6.5)
    right.set_axis_off()
    right.set_title(f"most confident errors among {len(test[1])} digits")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Trains, calibrates, exports, serves, and measures both servers in turn."""
    nn.cache_programs()  # the next start compiles nothing again
    out, took = folder(), clock()
    digits = nn.data.load("mnist").train
    rest, test = nn.data.split(0, digits, TEST / 5000, stratify=digits[1])
    train, valid = nn.data.split(1, rest, VALID / 4000, stratify=rest[1])
    machine = SVC(C=10).fit(rest[0].reshape(len(rest[1]), -1), rest[1])  # its other settings are good as they are
    baseline = machine.score(test[0].reshape(TEST, -1), test[1])
    print(f"support vector machine {100 * baseline:.1f} %, {took()}", flush=True)

    params = nn.sweep(trained, jax.random.split(jax.random.key(0), SEEDS), jax.tree.map(jnp.asarray, train)).results
    members = [(jax.tree.map(lambda a, k=k: a[k], params), {}) for k in range(SEEDS)]
    print(f"{SEEDS} networks, {took()}: ", end="")
    scores = calibrated(network(), members, valid, test)[1]

    networks = nn.ensemble(network(), SEEDS)
    together, of_all = nn.serial(networks, lambda found: jnp.log(found.mean)), ({networks.name: params}, {})
    print("together: ", end="")
    t = calibrated(together, [of_all], valid, test)[0][0]
    model = nn.serial(networks, lambda found: jax.nn.softmax(jnp.log(found.mean) / t))
    exported, file = nn.export(model, *of_all, test[0][:1]), out / "digits.bin"
    print(f"a file of {file.write_bytes(exported.serialize()) / 1e6:.1f} MB")

    run = jax.jit(exported.call)
    for size in (1, CLIENTS):
        run(test[0][:size]).block_until_ready()
        start = time.perf_counter()
        for k in range(50):
            run(test[0][k : k + size]).block_until_ready()
        rate = 50 * size / (time.perf_counter() - start)
        print(f"the networks alone, {size} at a time: {rate:.0f} images/s", flush=True)
    bodies = [json.dumps({"pixels": np.round(x[..., 0], 3).tolist()}).encode() for x in test[0].astype(float)]
    seconds: dict[str, np.ndarray] = {}
    rates: dict[str, list] = {name: [] for name in SETTINGS}
    with served(file, *SETTINGS["one by one"]) as single, served(file, *SETTINGS["in batches"]) as batched:
        ports = dict(zip(SETTINGS, (single, batched), strict=True))
        for _ in range(ROUNDS):
            for name, port in ports.items():
                took_each, rate = load(port, bodies)
                seconds[name] = np.append(seconds.get(name, []), took_each)
                rates[name].append(rate)
        connection = http.client.HTTPConnection("127.0.0.1", batched)
        found = [ask(connection, "POST", "/classify", body)[1]["digit"] for body in bodies[:100]]
        status, words = ask(connection, "POST", "/classify", b'{"pixels": [[NaN]]}')
        counts = ask(connection, "GET", "/statistics")[1]
    for name, of in seconds.items():
        p50, p99 = 1000 * np.percentile(of, (50, 99))
        print(f"{name:12}{np.median(rates[name]):8.0f} requests/s, half within {p50:.1f} ms, 99 % within {p99:.1f} ms")
    print(f"{counts['requests'] / counts['batches']:.1f} images in a batch; a bad request: {status}, {words['error']}")
    logits = np.asarray(nn.predict(together, *of_all, test[0]))
    picture(out / "serving.png", seconds, logits, float(t), test)
    print(f"{took()}; file and picture: {file}, {out / 'serving.png'}")

    assert not counts["jaxnn"], "the server has imported jaxnn"
    assert found == logits.argmax(-1)[:100].tolist(), "the server gives other answers"
    assert status == 422
    assert SHORT or scores.mean() - baseline > LEAST_GAIN, "below the figure that this example stands for"


if __name__ == "__main__":
    main()
