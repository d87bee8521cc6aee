"""HTTP server of a network that `nn.export` has written, with requests in batches. It needs jax and NumPy, not jaxnn.

    python examples/_digit_server.py digits.bin [--port 8000] [--batch 32] [--wait 2]

    GET /            the page on which one draws a digit, `_digit_page.html`
    POST /classify   {"pixels": 28 lists of 28 numbers from 0 to 1}  ->  {"digit": 7, "probabilities": [10 numbers]}
    GET /statistics  numbers of requests and batches so far

A thread collects the images of all clients: a batch ends at --batch images, or --wait milliseconds after its first.
"""

import argparse
import json
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

SIDE = 28
LARGEST = 1 << 16  # bytes of a body: 784 numbers of 18 digits are 16 kB
PATIENCE = 10  # seconds for a client to send, and for a batch to be computed
ROUTES = {"/": "GET", "/classify": "POST", "/statistics": "GET"}


class Fault(Exception):
    """An answer other than 200: a status and words."""


class Batches:
    """Images of several threads, computed in batches by one."""

    def __init__(self, network: Callable[[np.ndarray], Any], most: int, wait: float):
        self.network, self.most, self.wait = network, most, wait
        self.waiting: queue.SimpleQueue = queue.SimpleQueue()
        self.requests = self.batches = 0
        sizes = [1 << k for k in range((most - 1).bit_length() + 1)]
        for size in sizes:  # each compiles a program, before the first client comes
            network(np.zeros((size, SIDE, SIDE, 1), np.float32))
        threading.Thread(target=self.run, daemon=True).start()

    def __call__(self, image: np.ndarray) -> np.ndarray:
        answer: Future = Future()
        self.waiting.put((image, answer))
        return answer.result(PATIENCE)

    def run(self) -> None:
        while True:
            held = [self.waiting.get()]
            end = time.monotonic() + self.wait
            while len(held) < self.most:
                try:
                    held.append(self.waiting.get(timeout=max(0, end - time.monotonic())))
                except queue.Empty:
                    break
            images, answers = zip(*held, strict=True)
            self.requests, self.batches = self.requests + len(held), self.batches + 1
            copies = (1 << (len(held) - 1).bit_length()) - len(held)  # to a size that is compiled
            try:
                y = np.asarray(self.network(np.stack([*images, *images[:1] * copies])))
                for answer, row in zip(answers, y, strict=False):
                    answer.set_result(row)
            except Exception as error:  # the thread serves the next batch
                for answer in answers:
                    answer.set_exception(Fault(500, f"The network failed: {error}"))


def image_of(body: bytes) -> np.ndarray:
    """Pixels [28, 28, 1] of a request, which may hold anything."""
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        raise Fault(400, "The body is not JSON.") from None
    rows = given.get("pixels") if isinstance(given, dict) else None
    square = isinstance(rows, list) and len(rows) == SIDE
    if not (square and all(isinstance(row, list) and len(row) == SIDE for row in rows)):
        raise Fault(422, f'Expected {{"pixels": {SIDE} lists of {SIDE} numbers}}.')
    if not all(type(v) in (int, float) and 0 <= v <= 1 for row in rows for v in row):  # NaN is not
        raise Fault(422, "Expected pixels from 0, the background, to 1.")
    return np.array(rows, np.float32)[..., None]


class Handler(BaseHTTPRequestHandler):
    """One connection of a client, in a thread of its own."""

    protocol_version = "HTTP/1.1"  # a connection is kept for the next request
    disable_nagle_algorithm = True  # an answer does not wait for the acknowledgement of its header
    timeout = PATIENCE
    batches: Batches
    page: bytes

    def route(self) -> None:
        kind = "application/json"
        try:
            body = self.body()
            path = self.path.partition("?")[0]
            if path not in ROUTES:
                raise Fault(404, f"There is no {path[:99]}, but {', '.join(ROUTES)}.")
            if self.command != ROUTES[path]:
                raise Fault(405, f"{path} takes {ROUTES[path]}.")
            if path == "/":
                kind, out = "text/html; charset=utf-8", self.page
            elif path == "/statistics":
                counts = {"requests": self.batches.requests, "batches": self.batches.batches}
                out = json.dumps(counts | {"jaxnn": "jaxnn" in sys.modules}).encode()
            else:
                p = self.batches(image_of(body))
                out = json.dumps({"digit": int(p.argmax()), "probabilities": [round(float(v), 4) for v in p]}).encode()
            self.answer(200, kind, out)
        except Fault as fault:
            status, words = fault.args
            self.answer(status, kind, json.dumps({"error": words}).encode())
        except TimeoutError:
            self.answer(503, kind, json.dumps({"error": "Too many requests. Try again."}).encode())

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = route

    def body(self) -> bytes:
        """The body, as long as its header says."""
        if "Transfer-Encoding" in self.headers or (self.command == "POST" and "Content-Length" not in self.headers):
            self.close_connection = True
            raise Fault(411, "Send a Content-Length.")
        length = self.headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdigit()):
            self.close_connection = True
            raise Fault(400, "Content-Length is not a number.")
        if int(length) > LARGEST:
            self.close_connection = True
            raise Fault(413, f"The body has more than {LARGEST} bytes.")
        try:
            return self.rfile.read(int(length))
        except TimeoutError:
            self.close_connection = True
            raise Fault(408, f"The body did not arrive within {PATIENCE} seconds.") from None

    def answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if status == 405:
            self.send_header("Allow", ROUTES[self.path.partition("?")[0]])
        if self.close_connection:
            self.send_header("Connection", "close")
        self._headers_buffer.append(
            b"\r\n" + (b"" if self.command == "HEAD" else body)
        )  # header and body in one packet
        self.flush_headers()

    def finish(self) -> None:
        """Closes the connection after what the client still sends: it reads no answer to a request that was cut off."""
        end = time.monotonic() + PATIENCE
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            while time.monotonic() < end and self.connection.recv(LARGEST):
                pass
        super().finish()

    def log_message(self, *_: Any) -> None:
        """Prints nothing for each request."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    """Loads the network, compiles it for all sizes of a batch and serves until the process is ended."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("network", type=Path)
    arguments.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    arguments.add_argument("--batch", type=int, default=32, help="most images of a batch")
    arguments.add_argument("--wait", type=float, default=2, help="milliseconds that a batch waits for more images")
    given = arguments.parse_args()
    network = jax.jit(jax.export.deserialize(bytearray(given.network.read_bytes())).call)
    Handler.batches = Batches(network, given.batch, given.wait / 1000)
    Handler.page = Path(__file__).with_name("_digit_page.html").read_bytes()
    with Server(("127.0.0.1", given.port), Handler) as server:
        print(f"http://127.0.0.1:{server.server_port}/", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
