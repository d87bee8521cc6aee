"""The processor seconds of a call, without the cost of what other tests have left."""

import gc
import time
from concurrent.futures import ThreadPoolExecutor


def seconds_of(f):
    """The processor seconds that f() takes, and its result.

    It runs in a thread of its own: where a chunk of CPython's stack ends, each call maps and frees memory, and a new
    stack is far from there. Collections would walk through the objects of other tests, so there are none meanwhile.
    """

    def run():
        began = time.thread_time()  # other threads and processes may be busy
        result = f()
        return time.thread_time() - began, result

    collecting = gc.isenabled()
    gc.disable()
    try:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(run).result()
    finally:
        if collecting:
            gc.enable()
