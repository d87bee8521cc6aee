"""The server of exported networks and its page: bad requests, many clients, a digit drawn by a mouse in Chromium."""

import http.client
import json
import math
import re
import shutil
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxnn as nn

SERVER = Path(__file__).parents[2] / "examples" / "_digit_server.py"
CLIENTS, EACH = 8, 12
pytestmark = [pytest.mark.slow, pytest.mark.download]


@pytest.fixture(scope="module")
def digits():
    try:
        return jax.tree.map(lambda a: a[::4], nn.data.load("mnist").train)
    except nn.data.Unavailable as error:
        pytest.skip(f"the server and its page were not tested: {error}")


def neighbours(x, y):
    """Class probabilities by distances to known digits: a network that needs no training."""
    known, classes = x.reshape(len(x), -1), np.eye(10, dtype=np.float32)[y]
    squares = (known**2).sum(1)[None]

    def probabilities(z):
        return jax.nn.softmax(2 * z.reshape(z.shape[0], -1) @ known.T - squares) @ classes  # |z|² cancels

    return nn.lift(probabilities, name="neighbours")


@pytest.fixture(scope="module")
def port(digits, tmp_path_factory):
    pytest.importorskip("flatbuffers", reason="flatbuffers is not installed: the server and its page were not tested")
    file = tmp_path_factory.mktemp("served") / "digits.bin"
    file.write_bytes(nn.export(neighbours(*digits), {}, {}, digits[0][:1]).serialize())
    command = [sys.executable, "-W", "error", SERVER, file, "--port", "0", "--wait", "5", "--batch", "8"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield int(process.stdout.readline().rstrip("/\n").rpartition(":")[2])
        process.kill()


def ask(port, method, path, body=None, headers=()):
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request(method, path, body, dict(headers))
        reply = connection.getresponse()
        return reply, reply.read()


def body_of(image):
    return json.dumps({"pixels": image[..., 0].tolist()}).encode()


ROW, ROWS = [0.5] * 28, 'Expected {"pixels": 28 lists of 28 numbers}.'
RANGE = "Expected pixels from 0, the background, to 1."
WRONG = {  # method, path, body, headers -> status, words
    "not JSON": ("POST", "/classify", b"pixels", {}, 400, "The body is not JSON."),
    "not UTF-8": ("POST", "/classify", b"\xff\xfe", {}, 400, "The body is not JSON."),
    "too deep": ("POST", "/classify", b"[" * 60_000, {}, 400, "The body is not JSON."),
    "no object": ("POST", "/classify", b"[1]", {}, 422, ROWS),
    "another size": ("POST", "/classify", json.dumps({"pixels": [ROW] * 27}), {}, 422, ROWS),
    "a short row": ("POST", "/classify", json.dumps({"pixels": [ROW] * 27 + [[0.5]]}), {}, 422, ROWS),
    "NaN": ("POST", "/classify", json.dumps({"pixels": [ROW] * 27 + [[math.nan] * 28]}), {}, 422, RANGE),
    "infinity": ("POST", "/classify", json.dumps({"pixels": [[math.inf] * 28] * 28}), {}, 422, RANGE),
    "texts": ("POST", "/classify", json.dumps({"pixels": [["1"] * 28] * 28}), {}, 422, RANGE),
    "a large integer": ("POST", "/classify", json.dumps({"pixels": [ROW] * 27 + [[10**300] * 28]}), {}, 422, RANGE),
    "too long": ("POST", "/classify", b" " * 5_000_000, {}, 413, "The body has more than 65536 bytes."),
    "length": ("POST", "/classify", None, {"Content-Length": "-1"}, 400, "Content-Length is not a number."),
    "chunks": ("POST", "/classify", iter([b"[1]"]), {}, 411, "Send a Content-Length."),
    "path": ("GET", "/digits", None, {}, 404, "There is no /digits, but /, /classify, /statistics."),
    "method": ("GET", "/classify", None, {}, 405, "/classify takes POST."),
    "another method": ("DELETE", "/", None, {}, 405, "/ takes GET."),
}


def test_bad_requests_are_answered_with_words(port, digits):
    for name, (method, path, body, headers, status, words) in WRONG.items():
        reply, content = ask(port, method, path, body, headers)
        assert (name, reply.status, json.loads(content)["error"]) == (name, status, words)
        assert (reply.getheader("Allow") is not None) == (status == 405)
    reply, content = ask(port, "POST", "/classify", body_of(digits[0][0]))
    assert (reply.status, json.loads(content)["digit"]) == (200, digits[1][0])


def test_many_clients_share_batches(port, digits):
    before = json.loads(ask(port, "GET", "/statistics")[1])
    wrong, barrier = [], threading.Barrier(CLIENTS)

    def client(number):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        barrier.wait()
        for i in range(number * EACH, (number + 1) * EACH):
            connection.request("POST", "/classify", body_of(digits[0][i]))
            found = json.loads(connection.getresponse().read())
            if found["digit"] != digits[1][i] or abs(sum(found["probabilities"]) - 1) > 1e-3:
                wrong.append((i, found))
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    after = json.loads(ask(port, "GET", "/statistics")[1])
    assert after["requests"] - before["requests"] == CLIENTS * EACH
    assert after["batches"] - before["batches"] < 0.7 * CLIENTS * EACH
    assert not after["jaxnn"]


# The page.


@pytest.fixture(scope="module")
def browser():
    """Chromium without a screen, and the package that moves its mouse."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: the page was not tested")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no Chromium with its driver, which `make browser` installs: the page was not tested")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=900,700"):
        options.add_argument(f"--{option}")
    # Not by webdriver.Chrome, which leaves a connection to the driver open when it ends it.
    with subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True) as process:
        ports = (re.search(r"started successfully on port (\d+)", line) for line in process.stdout)
        with webdriver.Remote(f"http://127.0.0.1:{next(filter(None, ports))[1]}", options=options) as browser:
            yield browser
        browser.command_executor.close()
        process.kill()


def arc(middle, width, height, begin=0.0, end=1.0):
    """Points of an ellipse; begin and end are fractions of a turn, clockwise from the top."""
    turns = 2 * math.pi * np.linspace(begin, end, 20)
    return [(width * math.sin(a), middle - height * math.cos(a)) for a in turns]


# Strokes of a mouse in pixels from the middle of the canvas; they need not be centred, nor fill it.
STROKES = {
    0: [arc(0, 60, 85)],
    1: [[(5, -90), (-5, 90)]],
    3: [[*arc(-45, 45, 45, -0.2, 0.5), *arc(45, 50, 45, 0.0, 0.7)]],
    7: [[(-30, -40), (60, -40), (0, 100)]],
}


def test_a_digit_drawn_by_a_mouse_is_read(port, browser):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(f"http://127.0.0.1:{port}/")
    board, answer = (browser.find_element(By.ID, name) for name in ("board", "answer"))
    for digit, strokes in STROKES.items():
        assert answer.text == "Nothing is drawn."
        for points in strokes:
            mouse = ActionChains(browser, duration=5)
            mouse.move_to_element_with_offset(board, *map(round, points[0])).click_and_hold()
            for x, y in points[1:]:
                mouse.move_to_element_with_offset(board, round(x), round(y))
            mouse.release().perform()
        WebDriverWait(browser, 30).until(lambda _: " with " in answer.text)
        WebDriverWait(browser, 30).until(lambda _, digit=digit: answer.text.startswith(f"{digit} with "))
        confidence = float(answer.text.removeprefix(f"{digit} with ").removesuffix(" %"))
        bars = browser.find_elements(By.CSS_SELECTOR, ".bar span")
        assert bars[digit].text == f"{confidence:.1f} %"
        browser.find_element(By.ID, "clear").click()
    assert answer.text == "Nothing is drawn."
