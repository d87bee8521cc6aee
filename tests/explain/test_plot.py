"""Figures: the arrays they show, files, and the error without the package."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

from jaxnn import explain
from jaxnn.explain import plot

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(-1, 3, size=(3, 6, 5, 1)).astype(np.float32)


def shown(figure):
    """Arrays of the images in a figure."""
    return [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]


def test_a_grid_scales_each_image_or_by_limits():
    first = shown(plot.grid(jnp.asarray(IMAGES), columns=2, titles=["a", "b", "c"]))
    assert len(first) == 3
    for found, image in zip(first, IMAGES[..., 0], strict=True):
        assert_close(found, (image - image.min()) / (image.max() - image.min()))
    (found, *_) = shown(plot.grid(IMAGES[..., 0], limits=(0.0, 1.0)))
    assert_close(found, np.clip(IMAGES[0, ..., 0], 0, 1))


def test_a_grid_of_rows():
    patches = RNG.uniform(size=(2, 4, 3, 3, 3))
    figure = plot.grid(patches, titles=["channel 0", "channel 1"])
    assert len(figure.axes) == 8
    assert [axes.get_title(loc="left") for axes in figure.axes[::4]] == ["channel 0", "channel 1"]


def test_maps_are_scaled_by_their_largest_absolute_value():
    values = RNG.normal(size=(3, 2, 6, 5))
    values[0, 0] = 0
    figure = plot.maps(IMAGES, values, titles=["a", "b"])
    assert len(figure.axes) == 9
    _, _, found = shown(figure)[3:6][0], None, shown(figure)[4]
    assert_close(found, (values[0, 1] / np.abs(values[0, 1]).max()).astype(np.float32))


def test_other_figures_are_saved(tmp_path):
    side = np.linspace(-1, 1, 7)
    plane = 1 + side[:, None] ** 2 + 4 * side[None] ** 2
    figures = [
        plot.landscape(plane, [side, side], trajectory=np.array([[0.5, 0.5], [0.0, 0.0]])),
        plot.landscape(plane[0], [side]),
        plot.embedding(RNG.normal(size=(9, 2)), np.arange(9) % 3, classes=["a", "b", "c"]),
        plot.embedding(RNG.normal(size=(9, 2))),
        plot.matrix(explain.cka_matrix([IMAGES.repeat(2, 0)], [IMAGES.repeat(2, 0)]), rows=["a"], columns=["b"]),
    ]
    for i, figure in enumerate(figures):
        figure.savefig(tmp_path / f"{i}.png", dpi=30)
        assert (tmp_path / f"{i}.png").stat().st_size > 500
    assert [text.get_text() for text in figures[2].axes[0].get_legend().get_texts()] == ["a", "b", "c"]
    assert figures[4].axes[0].texts[0].get_text() == "1.00"


@pytest.mark.parametrize(
    ("call", "module", "package"),
    [
        (lambda: plot.grid(IMAGES), "matplotlib.figure", "matplotlib"),
        (lambda: explain.tsne(jnp.ones((5, 2)), perplexity=2.0), "sklearn.manifold", "scikit-learn"),
    ],
)
def test_a_package_that_is_not_installed(call, module, package, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf'{package} to be installed, got no such package. Run `pip install "jaxnn'):
        call()


WRONG = {
    "two channels": (
        lambda: plot.grid(np.ones((2, 4, 4, 2))),
        "grid: expected images of shape [..., h, w, c] with 1 or 3 channels, got float64[2, 4, 4, 2].",
    ),
    "maps of another size": (
        lambda: plot.maps(IMAGES, np.ones((3, 1, 5, 5))),
        "maps: expected maps of shape [3, m, 6, 5], got float64[3, 1, 5, 5].",
    ),
    "few titles": (
        lambda: plot.grid(IMAGES, titles=["a"]),
        "grid: expected titles to be 3 names, got ['a'].",
    ),
    "losses on another grid": (
        lambda: plot.landscape(np.ones((2, 3)), [np.ones(3), np.ones(2)]),
        "landscape: expected losses [a] or [a, b] for coordinates [a] and [b], got float64[2, 3].",
    ),
    "few names": (
        lambda: plot.embedding(np.ones((2, 2)), np.array([0, 3]), classes=["a"]),
        "embedding: expected at least 4 names of classes, got ['a'].",
    ),
    "a row of values": (
        lambda: plot.matrix(np.ones(3)),
        "matrix: expected values of shape [r, c], got float64[3].",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls(case):
    call, text = WRONG[case]
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert str(caught.value) == text
