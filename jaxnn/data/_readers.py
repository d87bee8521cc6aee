"""Readers: bytes of the published files -> NumPy arrays. CSV, IDX, .ts, PNG, TIFF, MP4, text, MNIST-1D's generator."""

import gzip
import io
import json
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from jaxnn._errors import invalid


def table(data: bytes, delimiter: str | None = ",") -> tuple[list[str], np.ndarray]:
    """Table of numbers with a header row -> header and float64 [rows, columns]; delimiter None means white space."""
    header, _, rows = data.decode().partition("\n")
    return header.split(delimiter), np.loadtxt(io.StringIO(rows), delimiter=delimiter, ndmin=2)


def pixels(data: bytes, side: int, white: int) -> tuple[np.ndarray, np.ndarray]:
    """Gzipped CSV with side² pixels and a label per row -> float32 [n, side, side, 1] in [0, 1] and int32 [n]."""
    rows = np.loadtxt(io.BytesIO(gzip.decompress(data)), delimiter=",", dtype=np.float32)
    return rows[:, :-1].reshape(-1, side, side, 1) / white, rows[:, -1].astype(np.int32)


def idx(data: bytes) -> np.ndarray:
    """Gzipped IDX file -> uint8 array of the shape in its header (big-endian sizes after a 4-byte magic number)."""
    data = gzip.decompress(data)
    rank = data[3]
    shape = np.frombuffer(data, ">i4", rank, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def photo(data: bytes) -> np.ndarray:
    """RGB image, PNG -> float32 [height, width, 3] in [0, 1]. Raises ValueError without Pillow."""
    try:
        from PIL import Image
    except ImportError as error:
        raise invalid("load", "Pillow, which decodes PNG", told="none", fix="Run `pip install pillow`.") from error
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB")).astype(np.float32) / 255


def tiff(data: bytes) -> np.ndarray:
    """TIFF with one uncompressed strip of 16-bit grey values, little-endian -> uint16 array [height, width].

    A tag is a number, a dtype, a count and a value. 256, 257 and 273: width, height, and offset of the strip.
    """
    start = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[start : start + 2], "little")
    tags = np.frombuffer(data, [("tag", "<u2"), ("dtype", "<u2"), ("count", "<u4"), ("value", "<u4")], count, start + 2)
    width, height, offset = (int(tags["value"][tags["tag"] == tag][0]) for tag in (256, 257, 273))
    return np.frombuffer(data, "<u2", width * height, offset).reshape(height, width)


def video(data: bytes, height: int, width: int) -> np.ndarray:
    """Video in MP4 -> float32 [frames, height, width, 1] in [0, 1]: brightness of the central part, as means of areas.

    Brightness is the decoder's own, in which 16 is black and 235 is white. Raises ValueError without imageio-ffmpeg.
    """
    try:
        import imageio_ffmpeg
    except ImportError as error:
        fix = "Run `pip install imageio-ffmpeg`."
        raise invalid("load", "imageio-ffmpeg, which decodes video", told="none", fix=fix) from error
    crop = rf"crop=min(iw\,ih*{width}/{height}):min(ih\,iw*{height}/{width})"
    filters = f"extractplanes=y,{crop},scale={width}:{height}:flags=area+accurate_rnd+bitexact"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "video.mp4")  # the index may be at the end of the file, so a pipe does not do
        path.write_bytes(data)
        decoder = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", path, "-vf", filters]
        decoded = subprocess.run([*decoder, "-f", "rawvideo", "-"], capture_output=True, check=True).stdout
    frames = np.frombuffer(decoded, np.uint8).reshape(-1, height, width, 1)
    return np.clip((frames.astype(np.float32) - 16) / 219, 0, 1)


def ragged(data: bytes, length: int) -> tuple[tuple[np.ndarray, np.ndarray], list[str]]:
    """A .ts file with one series per line -> (float32 [n, length, d] padded with 0, int32 [n] lengths) and the labels.

    A line contains the channels, separated by colons, followed by the label.
    """
    lines = [line.split(":") for line in data.decode().partition("@data\n")[2].splitlines()]
    series = [np.array([channel.split(",") for channel in channels], np.float32).T for *channels, _ in lines]
    padded = np.zeros((len(lines), length, series[0].shape[1]), np.float32)
    for row, one in zip(padded, series, strict=True):
        row[: len(one)] = one
    return (padded, np.array([len(one) for one in series], np.int32)), [line[-1] for line in lines]


def characters(data: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
    """ASCII text -> int32 codes [n] and their symbols, sorted by code point."""
    symbols, codes = np.unique(np.frombuffer(data, np.uint8), return_inverse=True)
    return codes.astype(np.int32), tuple(map(chr, symbols))


def mnist1d(source: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The 5000 examples of MNIST-1D -> float32 [5000, 40] and int32 [5000], from the templates in the authors' source.

    The templates are parsed; the source is not run. Each template is padded, stretched to 72 points, scaled and rolled
    by random amounts. Its zeros are replaced by correlated noise, white noise and a linear slope are added, and 40
    points are sampled. The order of the draws, from NumPy's legacy generator with seed 42, is that of the authors.

    Reference: Greydanus and Kobak, Scaling Down Deep Learning with MNIST-1D, 2020, arXiv:2011.14439.
    """
    rows = re.findall(r"d\d = np\.asarray\((\[.*?\])\)", source.decode())
    digits = np.array([json.loads(row) for row in rows])
    digits = (digits - digits.mean(1, keepdims=True)) / digits.std(1, keepdims=True)
    digits = (digits - digits[:, :1]) / 6 + 1e-8  # starts at 1e-8, not 0, so that exact zeros mark the padding

    random = np.random.RandomState(42)
    dense, kept = np.linspace(0, 1, 72), np.linspace(0, 1, 40)
    slope = np.linspace(-0.5, 0.5, 72)
    blur = np.exp(-((np.arange(-8, 9) / 2) ** 2) / 2)  # Gaussian kernel of σ = 2, truncated at 4σ
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
