"""The real sets: shapes, published facts, other people's readers and figures."""

import csv
import functools
import gzip
import hashlib
import io
import subprocess
import sys
import types

import numpy as np
import pytest

from jaxnn import data
from jaxnn.data import _readers
from jaxnn.data._fetch import fetch
from jaxnn.data._sources import ARCHIVES

download = pytest.mark.download
NAMES = (
    *("breast_cancer", "co2", "diabetes", "digits", "elnino", "faces", "fashion_mnist", "iris", "japanese_vowels"),
    *("linnerud", "mnist", "mnist1d", "motorcycle", "nuclei", "randhie", "shakespeare", "sunspots"),
    *("video_clips", "wine"),
)
KNOWN = ", ".join(map(repr, NAMES))


def or_skip(get, *arguments):
    """Skips where a package cannot be reached; one that has come with other bytes is a failure."""
    try:
        return get(*arguments)
    except data.Unavailable as error:
        if "a different" in str(error).rpartition(" download ")[2]:
            raise
        pytest.skip(str(error))


@functools.cache
def load(name):
    return or_skip(data.load, name)


def raw(archive):
    return or_skip(fetch, archive)


# (name, shapes of x, y, x_test, y_test, classes, features); the packages of the rest are in the test requirements
SHAPES = [
    ("breast_cancer", (569, 30), (569,), None, None, 2, 30),
    ("diabetes", (442, 10), (442,), None, None, 0, 10),
    ("digits", (1797, 8, 8, 1), (1797,), None, None, 10, 0),
    ("iris", (150, 4), (150,), None, None, 3, 4),
    ("linnerud", (20, 3), (20, 3), None, None, 0, 3),
    ("wine", (178, 13), (178,), None, None, 3, 13),
    pytest.param("co2", (2284,), (2284,), None, None, 0, 1, marks=download),
    pytest.param("elnino", (732,), (732,), None, None, 0, 1, marks=download),
    pytest.param("sunspots", (309,), (309,), None, None, 0, 1, marks=download),
    pytest.param("faces", (200, 25, 25, 1), (200,), None, None, 2, 0, marks=download),
    pytest.param("fashion_mnist", (60000, 28, 28, 1), (60000,), (10000, 28, 28, 1), (10000,), 10, 0, marks=download),
    pytest.param("mnist", (5000, 28, 28, 1), (5000,), None, None, 10, 0, marks=download),
    pytest.param("mnist1d", (4000, 40), (4000,), (1000, 40), (1000,), 10, 0, marks=download),
    pytest.param("motorcycle", (1, 500, 741, 3), (1, 500, 741), None, None, 0, 0, marks=download),
    pytest.param("nuclei", (1, 512, 512, 1), (1, 512, 512), None, None, 0, 0, marks=download),
    pytest.param("japanese_vowels", (270, 29, 12), (270,), (370, 29, 12), (370,), 9, 0, marks=download),
    pytest.param("randhie", (20190, 9), (20190,), None, None, 0, 9, marks=download),
    pytest.param("video_clips", (622, 72, 88, 1), (622,), None, None, 4, 0, marks=download),
    pytest.param("shakespeare", (5057279,), (5057279,), None, None, 84, 0, marks=download),
]


@pytest.mark.parametrize(("name", "x", "y", "x_test", "y_test", "classes", "features"), SHAPES)
@pytest.mark.slow
def test_shapes_and_dtypes(name, x, y, x_test, y_test, classes, features):
    found = load(name)
    assert type(found) is data.Dataset
    for part, shapes in ((found.train, (x, y)), (found.test, (x_test, y_test))):
        if shapes == (None, None):
            assert part is None
            continue
        inputs, targets = part
        if name == "japanese_vowels":
            inputs, lengths = inputs
            assert (lengths.shape, lengths.dtype) == (shapes[1], np.int32)
        if name == "motorcycle":
            inputs, right = inputs
            assert (right.shape, right.dtype) == (inputs.shape, np.float32)
        assert (inputs.shape, targets.shape) == shapes
        assert inputs.dtype == (np.int32 if name == "shakespeare" else np.float32)
        assert targets.dtype == (np.int32 if classes or name == "nuclei" else np.float32)
        assert np.isfinite(inputs).all()
        assert np.isfinite(targets).all() or name in ("motorcycle", "co2")
        if classes:
            np.testing.assert_array_equal(np.unique(targets), range(classes))
    assert (len(found.classes), len(found.features)) == (classes, features)
    assert all(isinstance(name, str) for name in found.classes + found.features)
    archive = ARCHIVES[name]
    assert found.source == f"{archive.package} {archive.version}; {archive.cite}"


def test_the_table_of_shapes_is_whole():
    named = [row.values[0] if hasattr(row, "values") else row[0] for row in SHAPES]
    assert tuple(sorted(named)) == data.names() == NAMES


# --- scikit-learn's own loaders


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine"])
def test_equals_scikit_learn_to_the_bit(name):
    from sklearn import datasets

    theirs = getattr(datasets, f"load_{name}")()
    ours = load(name)
    x, y = ours.train
    scale = np.float32(16 if name == "digits" else 1)
    np.testing.assert_array_equal(x.reshape(len(x), -1) * scale, theirs.data.astype(np.float32))
    np.testing.assert_array_equal(y, theirs.target.astype(y.dtype))
    if ours.classes:
        assert ours.classes == tuple(map(str, theirs.target_names))
    if ours.features:
        assert ours.features == tuple(map(str, theirs.feature_names))


def test_regression_on_diabetes_gives_the_known_fit():
    from sklearn.linear_model import LinearRegression

    x, y = load("diabetes").train
    fit = LinearRegression().fit(x.astype(np.float64), y)
    assert fit.score(x.astype(np.float64), y) == pytest.approx(0.517748, abs=1e-6)
    assert fit.intercept_ == pytest.approx(152.1335, abs=1e-4)


def test_logistic_regression_on_breast_cancer_gives_the_known_fit():
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.preprocessing import StandardScaler

    x, y = load("breast_cancer").train
    x = StandardScaler().fit_transform(x.astype(np.float64))
    fit = LogisticRegression(C=1.0, tol=1e-8, max_iter=1000).fit(x, y)
    assert fit.score(x, y) == pytest.approx(0.987698, abs=1e-6)
    assert log_loss(y, fit.predict_proba(x)) == pytest.approx(0.05339186, abs=1e-6)


# --- images


@download
def test_mnist_is_balanced_and_equals_the_csv():
    x, y = load("mnist").train
    assert np.bincount(y).tolist() == [500] * 10
    assert (x.min(), x.max()) == (0, 1)
    assert x.mean() == pytest.approx(0.1307, abs=2e-3)  # of all 60000, as widely published
    assert x.std() == pytest.approx(0.3081, abs=2e-3)
    rows = list(csv.reader(io.StringIO(gzip.decompress(raw(ARCHIVES["mnist"])[0]).decode())))
    for row in (0, 1234, 4999):
        expected = np.array(rows[row], np.float64)
        np.testing.assert_array_equal(x[row].ravel(), (expected[:-1] / 255).astype(np.float32))
        assert y[row] == expected[-1]


@download
@pytest.mark.slow
def test_fashion_mnist_has_the_published_statistics():
    found = load("fashion_mnist")
    (x, y), (x_test, y_test) = found.train, found.test
    assert np.bincount(y).tolist() == [6000] * 10
    assert np.bincount(y_test).tolist() == [1000] * 10
    assert y[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert y_test[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    assert found.classes[y[0]] == "Ankle boot"
    assert (x.min(), x.max(), x_test.min(), x_test.max()) == (0, 1, 0, 1)
    assert x.mean(dtype=np.float64) == pytest.approx(0.2860, abs=5e-5)
    assert x.std(dtype=np.float64) == pytest.approx(0.3530, abs=5e-5)


def test_idx_reads_sizes_and_order():
    expected = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    header = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4, "big") for size in expected.shape)
    np.testing.assert_array_equal(_readers.idx(gzip.compress(header + expected.tobytes())), expected)


@download
def test_faces_are_more_alike_than_other_parts_of_photos():
    """The labels are in the order of the images: faces, aligned by their publisher, correlate with their mean."""
    x, y = load("faces").train
    rows = x.reshape(len(x), -1).astype(np.float64)
    rows = (rows - rows.mean(1, keepdims=True)) / rows.std(1, keepdims=True)
    likeness = rows @ rows[y == 1].mean(0) / rows.shape[1]
    assert likeness[y == 1].mean() > 3 * np.abs(likeness[y == 0]).mean()


@download
def test_motorcycle_is_one_scene_seen_twice():
    """The disparities are the published ones, and each left pixel has its colour in the right photo, d to the left."""
    (left, right), disparity = load("motorcycle").train
    known = np.isfinite(disparity)
    assert np.isposinf(disparity[~known]).all()
    assert 1 - known.mean() == pytest.approx(0.073, abs=5e-4)
    assert (disparity[known].min(), disparity[known].max()) == (
        pytest.approx(7.19, abs=0.01),
        pytest.approx(59.9, abs=0.1),
    )
    assert (left.min(), left.max()) == (0, 1)
    _, rows, columns = np.nonzero(known)
    error = {}
    for sign in (-1, 0, 1):
        there = columns + sign * np.round(disparity[known]).astype(int)
        inside = (there >= 0) & (there < left.shape[2])
        difference = left[0, rows, columns] - right[0, rows, there.clip(0, left.shape[2] - 1)]
        error[sign] = np.abs(difference[inside]).mean()
    assert error[-1] < 0.06 < 0.12 < min(error[0], error[1])


@download
def test_nuclei_are_the_published_ones_as_pillow_reads_them():
    """125 connected nuclei, brighter than the background, which is four fifths of the image."""
    from PIL import Image
    from scipy import ndimage

    x, y = load("nuclei").train
    image, numbers = (np.asarray(Image.open(io.BytesIO(file))) for file in raw(ARCHIVES["nuclei"]))
    np.testing.assert_array_equal(x[0, ..., 0] * np.float32(255), image.astype(np.float32))
    np.testing.assert_array_equal(y[0], numbers)
    found = np.unique(y)[1:]
    assert (len(found), found[0], found[-1]) == (125, 1, 183)
    assert all(ndimage.label(y[0] == number, np.ones((3, 3)))[1] == 1 for number in found)
    assert (y == 0).mean() == pytest.approx(0.8, abs=2e-3)
    assert x[..., 0][y > 0].mean() > 2.5 * x[..., 0][y == 0].mean()


def test_tiff_reads_height_and_width():
    from PIL import Image

    expected = np.arange(24, dtype=np.uint16).reshape(4, 6) * 300
    file = io.BytesIO()
    Image.fromarray(expected).save(file, "tiff")
    np.testing.assert_array_equal(_readers.tiff(file.getvalue()), expected)


def test_photos_ask_for_pillow(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ValueError) as error:
        _readers.photo(b"")
    assert str(error.value) == "load: expected Pillow, which decodes PNG, got none. Run `pip install pillow`."


def test_photo_reads_height_width_colour():
    from PIL import Image

    expected = np.arange(24, dtype=np.uint8).reshape(2, 4, 3) * 10
    file = io.BytesIO()
    Image.fromarray(expected).save(file, "png")
    np.testing.assert_array_equal(_readers.photo(file.getvalue()), expected.astype(np.float32) / 255)


@download
@pytest.mark.slow
def test_video_clips_have_the_frames_and_scenes_of_their_files():
    """Frames as ffmpeg counts them; the cuts of "bikes"; the distorted clip moves as the other one."""
    found = load("video_clips")
    x, y = found.train
    assert np.bincount(y).tolist() == [132, 250, 120, 120]
    assert (np.diff(y) >= 0).all()
    assert (x.min(), x.max()) == (0, 1)
    changes = np.abs(np.diff(x[y == 1], axis=0)).mean((1, 2, 3))
    assert sorted(np.argsort(changes)[-5:] + 1) == [30, 76, 137, 187, 242]
    pristine, distorted = ((rows - rows.mean(0)).reshape(120, -1) for rows in (x[y == 2], x[y == 3]))
    nearest = np.argmax(distorted[::10] @ pristine.T / np.linalg.norm(pristine, axis=1), axis=1)
    assert np.abs(nearest - np.arange(0, 120, 10)).max() <= 4


def test_videos_ask_for_their_decoder(monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ValueError) as error:
        _readers.video(b"", 2, 2)
    text = "load: expected imageio-ffmpeg, which decodes video, got none. Run `pip install imageio-ffmpeg`."
    assert str(error.value) == text


def test_video_averages_areas_of_the_central_part(tmp_path):
    """Three frames, compressed without loss; areas of 4 x 4 pixels, rounded to bytes; 16 is black and 235 white."""
    import imageio_ffmpeg

    planes = np.random.default_rng(0).integers(16, 236, (3, 48, 80)).astype(np.uint8)
    given = b"".join(plane.tobytes() + bytes([128]) * (48 * 80 // 2) for plane in planes)
    source = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", "80x48", "-i", "-"]
    encoder = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *source, "-c:v", "libx264", "-qp", "0"]
    subprocess.run([*encoder, tmp_path / "a.mp4"], input=given, check=True)
    expected = planes[:, :, 16:64].reshape(3, 12, 4, 12, 4).mean((2, 4))
    found = _readers.video((tmp_path / "a.mp4").read_bytes(), 12, 12)
    np.testing.assert_allclose(16 + 219 * found[..., 0], expected, rtol=0, atol=0.51)


# --- series and text


@download
@pytest.mark.slow
def test_mnist1d_equals_its_authors_code(monkeypatch):
    """Runs the package's own generator, from verified files, with empty modules for what it imports and never calls."""
    modules = {
        "mnist1d/transform.py": "0d8298abd140ad7e44dfff333545a428d2d029a19484dcc1894678730a309e8a",
        "mnist1d/utils.py": "0a793da12055bebc1887111bc1d22dc02ed15f48bf05a0098febf1548df7ffe4",
        "mnist1d/data.py": "86b70116be8a587be28e12c4ab21abf347cfa805db8ae1d1943d895682890246",
    }
    found = load("mnist1d")
    sources = raw(ARCHIVES["mnist1d"]._replace(files=modules))
    for name in ("requests", "matplotlib", "matplotlib.pyplot", "mnist1d"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(sys.modules["matplotlib"], "pyplot", sys.modules["matplotlib.pyplot"], raising=False)
    for path, source in zip(modules, sources, strict=True):
        module = types.ModuleType(path[:-3].replace("/", "."))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(source, path, "exec"), module.__dict__)
    state = np.random.get_state()
    theirs = module.make_dataset()
    np.random.set_state(state)
    for (x, y), x_name, y_name in ((found.train, "x", "y"), (found.test, "x_test", "y_test")):
        np.testing.assert_array_equal(y, theirs[y_name])
        np.testing.assert_allclose(x, theirs[x_name], rtol=0, atol=1e-6)


@download
@pytest.mark.slow
def test_mnist1d_gives_the_papers_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    found = load("mnist1d")
    accuracy = LogisticRegression(tol=1e-2).fit(*found.train).score(*found.test)
    assert accuracy == pytest.approx(0.32, abs=0.02)  # "32 %" in the paper


@pytest.mark.slow
def test_mnist1d_leaves_the_global_generator_alone():
    digits = "\n".join(f"d{k} = np.asarray({[5, *range(k, k + 10), 5]})" for k in range(10))
    before = np.random.get_state()[1].copy()
    first, again = _readers.mnist1d(digits.encode()), _readers.mnist1d(digits.encode())
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


@download
def test_japanese_vowels_has_the_published_split():
    """The counts of the data set's own description; 7 to 29 frames of 12 coefficients."""
    found = load("japanese_vowels")
    ((x, lengths), y), ((x_test, lengths_test), y_test) = found.train, found.test
    assert np.bincount(y).tolist() == [30] * 9
    assert np.bincount(y_test).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    assert found.classes == tuple("123456789")
    both = np.concatenate([lengths, lengths_test])
    assert (both.min(), both.max()) == (7, 29)
    assert lengths[0] == 20
    np.testing.assert_array_equal(x[0, :3, 0], np.float32([1.860936, 1.891651, 1.939205]))
    np.testing.assert_array_equal(x[0, 0, :3], np.float32([1.860936, -0.207383, 0.261557]))
    for padded, true in ((x, lengths), (x_test, lengths_test)):
        inside = np.arange(29) < true[:, None]
        assert (padded[~inside] == 0).all()
        assert (padded[inside] != 0).any(-1).all()


def test_ragged_reads_a_series_a_line():
    (x, lengths), labels = _readers.ragged(b"#x\n@classLabel true a b\n@data\n1,2,3:4,5,6:b\n7:8:a\n", 4)
    assert x.tolist() == [[[1, 4], [2, 5], [3, 6], [0, 0]], [[7, 8], [0, 0], [0, 0], [0, 0]]]
    assert (lengths.tolist(), labels) == ([3, 1], ["b", "a"])


@download
def test_series_have_the_published_values():
    """Sunspots: mean, greatest year; El Niño: months in order, the warmest years; CO2: first weeks, gaps, growth."""
    (years, spots), (months, warmth), (weeks, co2) = (load(name).train for name in ("sunspots", "elnino", "co2"))
    assert spots.mean() == pytest.approx(49.7521, abs=1e-3)
    assert (years[0], spots[0], years[spots.argmax()], spots.max()) == (1700, 5, 1957, np.float32(190.2))
    np.testing.assert_array_equal(warmth[:13], np.float32([23.11, 24.2, 25.37, 23.86, 23.03, 21.57, 20.63, 20.15,
                                                          19.67, 20.03, 20.02, 21.8, 24.19]))  # fmt: skip
    np.testing.assert_array_equal(months[:13:6], [1950, 1950.5, 1951])
    assert set(1950 + np.argsort(warmth.reshape(61, 12).mean(1))[-3:]) == {1983, 1997, 1998}
    np.testing.assert_array_equal(co2[:3], np.float32([316.1, 317.3, 317.6]))
    assert np.isnan(co2).sum() == 59
    assert (np.diff(weeks) > 0).all()
    assert np.nanmean(co2[-52:]) - np.nanmean(co2[:52]) == pytest.approx(371.0 - 315.6, abs=1)


@download
def test_shakespeare_is_the_whole_text():
    found = load("shakespeare")
    x, y = found.train
    np.testing.assert_array_equal(x[1:], y[:-1])
    text = "".join(data.decode(np.append(x, y[-1:]), found.classes).tolist())
    assert hashlib.sha256(text.encode()).hexdigest() == next(iter(ARCHIVES["shakespeare"].files.values()))
    assert text.startswith("ALL'S WELL THAT ENDS WELL\n\nby William Shakespeare\n")
    assert "To be, or not to be,--that is the question:--" in text
    assert text.count("by William Shakespeare\n") == 42
    assert list(found.classes) == sorted(set(text))


# --- tables


@download
def test_randhie_gives_the_published_poisson_regression():
    """The coefficients of statsmodels' worked example of this set, by Newton's method in float64."""
    found = load("randhie")
    x, y = (part.astype(np.float64) for part in found.train)
    assert found.features == ("lncoins", "idp", "lpi", "fmde", "physlm", "disea", "hlthg", "hlthf", "hlthp")
    x = np.column_stack([x, np.ones(len(x))])
    w = np.append(np.zeros(9), np.log(y.mean()))
    for _ in range(20):
        rate = np.exp(x @ w)
        w += np.linalg.solve(x.T @ (rate[:, None] * x), x.T @ (y - rate))
    published = [-0.0525, -0.2471, 0.0353, -0.0346, 0.2717, 0.0339, -0.0126, 0.0541, 0.2061, 0.7004]
    np.testing.assert_allclose(w, published, rtol=0, atol=6e-5)


# --- wrong calls


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("mist", ValueError, f"load: expected name to be one of {KNOWN}, got 'mist'. Did you mean 'mnist'?"),
        ("../etc", ValueError, f"load: expected name to be one of {KNOWN}, got '../etc'."),
    ],
)
def test_a_wrong_name(name, kind, message):
    with pytest.raises(kind) as error:
        data.load(name)
    assert str(error.value) == message


def test_a_wrong_cache():
    with pytest.raises(TypeError) as error:
        data.load("iris", cache=3)
    assert str(error.value) == "load: expected cache to be a folder's path or None, got 3."


def test_load_takes_a_cache(tmp_path, monkeypatch):
    """The cache is looked at first, and a wrong file there is passed over."""
    folder = tmp_path / "scikit-learn-1.9.1"
    folder.mkdir()
    (folder / "iris.csv").write_bytes(b"")
    assert load("iris").train[0].shape == data.load("iris", cache=tmp_path).train[0].shape == (150, 4)
