"""The recipes of docs/ are run as they stand."""

import contextlib
import csv
import doctest
import io
import json
import operator
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn as nn
from jaxnn.interop._checkpoints import SOURCES

DOCS = Path(__file__).parents[1] / "docs"
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)
BLOCKS = CODE.findall((DOCS / "hooks.md").read_text())
INTEROP = (DOCS / "interop.md").read_text()
PAIRS = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)  # code, and its output
TOUR = {f"{p.parent.name}/{p.stem}": p.read_text() for room in ("start", "guides") for p in (DOCS / room).glob("*.md")}
LOOPS = {path.stem: path.read_text() for path in (DOCS / "coming").glob("*.md") if "```py" in path.read_text()}
PACKAGES = {"linen": "flax", "nnx": "flax", "_ours": "jax"}
SETUP, *RECIPES = CODE.findall(INTEROP)
NOTES = (DOCS / "notes.md").read_text()
SECTIONS = {s.split("\n")[0]: s for s in re.split(r"^##+ ", NOTES, flags=re.MULTILINE) if CODE.search(s)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_recipes_of_hooks_log_every_epoch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for block in BLOCKS:
            exec(block, names)
    rows = [json.loads(line) for line in Path("run.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert rows[-1]["valid/loss"] == pytest.approx(float(names["run"].history["valid"]["loss"][-1]))
    with open("run.csv", newline="") as file:
        assert len(list(csv.reader(file))) == 6
    assert len(list(Path().glob("epoch-*.png"))) == 5
    assert list(Path("board").glob("events*"))


# Name of a recipe of interop.md -> a fact about its variables
FACTS = {
    "efficientnet_lite0": lambda v: v["classes"][np.argmax(v["run"](v["x"]))] == "tiger cat",
    "minilm": lambda v: v["vectors"][0] @ v["vectors"][1] > 0.5 > 0.2 > v["vectors"][0] @ v["vectors"][2],
    "hed": lambda v: v["edges"].shape == (1, 128, 128, 1) and v["edges"].max() > 0.5,
    "mtcnn_pnet": lambda v: v["faces"].max() > 0.9 and np.abs(np.array(v["corner"]) - (180, 70)).max() < 48,
    "crepe_tiny": lambda v: abs(v["hertz"] / 440 - 1) < 0.017,
    "silero_vad": lambda v: v["speech"].shape == (31,) and v["speech"].max() < 0.5,
    "resnet": lambda v: len(v["names"]) == 7,
}


@pytest.mark.slow
@pytest.mark.parametrize(("fact", "recipe"), list(zip(FACTS, RECIPES, strict=True)), ids=list(FACTS))
def test_the_recipes_of_interop_load_checkpoints(fact, recipe):
    for package in ("skimage", "h5py"):
        pytest.importorskip(package, reason=f"{package} is not installed: the recipes of interop.md are not run")
    names = {}
    assert f'"{fact}"' in recipe
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(SETUP, names)
        try:
            exec(recipe, names)
        except nn.data.Unavailable as error:
            pytest.skip(str(error))
        assert FACTS[fact](names)


def test_the_rules_of_interop_are_those_of_naming():
    tables = re.findall(r"^`naming\(\"(\w+)\"\).*?\n\n((?:\|.*\n)+)", INTEROP, re.MULTILINE)
    assert len(tables) == 6
    for of, table in tables:
        rows = re.findall(r"\| `(.*?)` \| `(.*?)` \|", table)
        assert rows
        assert {name.strip(): path for name, path in rows}.items() <= nn.interop.naming(of).items()


def test_interop_lists_every_checkpoint_and_adapter():
    known = set(re.findall(r"`(\w+)", INTEROP))
    assert set(SOURCES) | {name for name in nn.interop.__all__ if name.islower()} <= known
    for source in SOURCES.values():
        assert f"| {source.archive.package} {source.archive.version} |" in INTEROP


@pytest.mark.slow
@pytest.mark.parametrize("title", SECTIONS)
def test_the_code_of_the_notes_prints_its_figures(title):
    names = {"jax": jax, "jnp": jnp, "np": np, "optax": optax, "nn": nn}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for code in CODE.findall(SECTIONS[title]):
        runner.run(doctest.DocTestParser().get_doctest(code, names, title, "notes.md", 0), clear_globs=False)
    assert runner.failures == 0 < runner.tries


def test_the_names_and_links_of_the_notes_exist():
    for name in set(re.findall(r"`nn\.([\w.]+)", NOTES)):
        assert operator.attrgetter(name)(nn) is not None
    anchors = {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in re.findall("^##+ (.*)$", NOTES, re.M)}
    for text, target in re.findall(r"\[([^]]*)\]\(([^)]*)\)", NOTES):
        if target.startswith("#"):
            assert target[1:] in anchors
        else:
            page = (DOCS / target).read_text()
            assert not text.startswith("test_") or text.endswith(".py") or f"def {text}(" in page, text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("page", [name for name, text in TOUR.items() if "```python" in text])
def test_the_code_of_the_tour_prints_its_outputs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checker, names = doctest.OutputChecker(), {}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for code, output in PAIRS.findall(TOUR[page]):
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(code, names)
            said = printed.getvalue()
            assert not output or checker.check_output(output, said, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE), (
                said
            )
        assert len(re.findall(r"\n(?!\n)", "".join(CODE.findall(TOUR[page])))) <= 45


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("page", LOOPS)
def test_the_loops_of_other_libraries_and_ours_learn(page):
    package = PACKAGES.get(page, page)
    pytest.importorskip(package, reason=f"{package} is not installed: its loop is not run")
    x, y = nn.data.load("digits").train
    names = {"x": x[:500].reshape(500, 64), "y": y[:500]}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for _, code in re.findall(r"```py(thon)?\n(.*?)```", LOOPS[page], re.DOTALL):
            exec(code, names)
    if "value" in names:
        assert names["value"] < np.log(10)
