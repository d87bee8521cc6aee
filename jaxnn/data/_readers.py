"""Bytes of the published files -> NumPy arrays: CSV, IDX, .ts, PNG, text, and the generator of MNIST-1D."""

import gzip
import io
import json
import re

import numpy as np

from jaxnn._errors import invalid


def table(data: bytes, delimiter: str | None = ",") -> tuple[list[str], np.ndarray]:
    """A table of numbers with a header row -> its header and float64 [rows, columns]; no delimiter is white space."""
    header, _, rows = data.decode().partition("\n")
    return header.split(delimiter), np.loadtxt(io.StringIO(rows), delimiter=delimiter, ndmin=2)


def pixels(data: bytes, side: int, white: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of side² pixels and a label, gzipped CSV -> float32 [n, side, side, 1] in [0, 1] and int32 [n]."""
    rows = np.loadtxt(io.BytesIO(gzip.decompress(data)), delimiter=",", dtype=np.float32)
    return rows[:, :-1].reshape(-1, side, side, 1) / white, rows[:, -1].astype(np.int32)


def idx(data: bytes) -> np.ndarray:
    """A gzipped IDX file of bytes -> uint8 of the shape its header gives (big-endian sizes after a 4-byte magic)."""
    data = gzip.decompress(data)
    rank = data[3]
    shape = np.frombuffer(data, ">i4", rank, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def photo(data: bytes) -> np.ndarray:
    """A coloured picture, PNG -> float32 [height, width, 3] in [0, 1]; asks for Pillow, a ValueError without it."""
    try:
        from PIL import Image
    except ImportError as error:
        raise invalid("load", "Pillow, which decodes PNG", told="none", fix="Run `pip install pillow`.") from error
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB")).astype(np.float32) / 255


def ragged(data: bytes, length: int) -> tuple[tuple[np.ndarray, np.ndarray], list[str]]:
    """A .ts file, a series a line -> (float32 [n, length, d] padded with 0, int32 [n] lengths) and the labels.

    A line holds the channels one after the other, divided by colons, and the label after the last.
    """
    lines = [line.split(":") for line in data.decode().partition("@data\n")[2].splitlines()]
    series = [np.array([channel.split(",") for channel in channels], np.float32).T for *channels, _ in lines]
    padded = np.zeros((len(lines), length, series[0].shape[1]), np.float32)
    for row, one in zip(padded, series, strict=True):
        row[: len(one)] = one
    return (padded, np.array([len(one) for one in series], np.int32)), [line[-1] for line in lines]


def characters(data: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
    """An ASCII text -> int32 codes [n] and the symbols they stand for, in order of their code points."""
    symbols, codes = np.unique(np.frombuffer(data, np.uint8), return_inverse=True)
    return codes.astype(np.int32), tuple(map(chr, symbols))


def mnist1d(source: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The 5000 examples of MNIST-1D -> float32 [5000, 40] and int32 [5000], from the templates in the authors' source.

    The templates are read, not run. A template is padded, stretched to 72 points, scaled and rolled by random amounts;
    its zeros become correlated noise, and white noise and a slope are added; 40 points of it are kept.
    The order of the draws, from NumPy's frozen legacy generator with seed 42, is the authors' own.

    Greydanus and Kobak, Scaling Down Deep Learning with MNIST-1D, 2020, arXiv:2011.14439.
    """
    rows = re.findall(r"d\d = np\.asarray\((\[.*?\])\)", source.decode())
    digits = np.array([json.loads(row) for row in rows])
    digits = (digits - digits.mean(1, keepdims=True)) / digits.std(1, keepdims=True)
    digits = (digits - digits[:, :1]) / 6 + 1e-8  # from 0 to 0; not quite, so that only the padding is 0

    random = np.random.RandomState(42)
    dense, kept = np.linspace(0, 1, 72), np.linspace(0, 1, 40)
    slope = np.linspace(-0.5, 0.5, 72)
    blur = np.exp(-((np.arange(-8, 9) / 2) ** 2) / 2)  # a Gaussian of σ = 2, cut at 4σ
    blur /= blur.sum()
    labels = np.repeat(np.arange(10, dtype=np.int32), 500)
    examples = []
    for digit in digits[labels]:
        padded = np.concatenate([digit, np.zeros(36 + int(25 * random.rand()))])
        x = np.interp(dense, np.linspace(0, 1, len(padded)), padded)
        x = x * (1 + 0.4 * (random.rand() - 0.5))
        x = np.roll(x, random.randint(48))
        noise = np.convolve(np.pad(0.25 * random.randn(72), 8, "symmetric"), blur, "valid")
        x = np.where(x == 0, noise, x) + 0.02 * random.randn(72)
        x = x - 0.75 * (random.rand() - 0.5) * slope
        examples.append(np.interp(kept, dense, x))
    order = random.permutation(len(labels))
    x = np.stack(examples)[order]
    return ((x - x.mean()) / x.std()).astype(np.float32), labels[order]
