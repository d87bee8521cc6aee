"""The pages that docs/_ext/handbook makes for the site: every public name, with its arguments, its tests and its names
in other libraries. Sphinx is not needed."""

import doctest
import importlib
import json
import re
import types

import pytest
from handbook import api, coming, docstrings, gallery, markdown, notebooks, rooms

import jaxnn as nn
from jaxnn._elsewhere import TABLE

ENTRIES = [entry for room in api.rooms() for entry in room.entries]


@pytest.fixture(scope="module")
def pages():
    return api.pages()


@pytest.mark.parametrize("module", [docstrings, markdown], ids=lambda module: module.__name__)
def test_the_examples_of_the_generator(module):
    found = doctest.testmod(module)
    assert found.failed == 0 < found.attempted


@pytest.mark.slow
def test_every_public_name_is_on_one_page(pages):
    described = [
        f"{module}.{name}"
        for text in pages.values()
        for name, module in re.findall(r"^::::\{py:\w+\} (\w+).*\n:module: (.*)$", text, re.MULTILINE)
    ]
    assert len(described) == len(set(described))
    things = {id(getattr(importlib.import_module(n.rpartition(".")[0]), n.rpartition(".")[2])) for n in described}
    rooms = [nn, *(room.module for room in api.rooms()[1:])]
    assert {id(getattr(nn, name)) for name in nn.__all__ if isinstance(getattr(nn, name), types.ModuleType)} <= {
        *map(id, rooms)
    }
    public = {id(getattr(room, name)): name for room in rooms for name in getattr(room, "__all__", ())}
    modules = {id(room) for room in rooms}
    assert [name for key, name in public.items() if key not in things | modules] == []


def test_every_argument_has_a_row():
    for entry in ENTRIES:
        doc = docstrings.parse(entry.thing.__doc__)
        text = api.entry_text(entry)
        for block in {"Args", "Attributes"} & doc.blocks.keys():
            rows = docstrings.entries(doc.blocks[block])
            assert rows, entry.shown
            assert all(f"| {api.names(names)} |" in text for names, _ in rows), entry.shown


@pytest.mark.slow
def test_every_name_has_a_page_of_its_tests(pages):
    missing = [e.shown for e in ENTRIES if f"{api.page_of_test(api.test_of(e) or '')}.md" not in pages]
    assert missing == []


@pytest.mark.slow
def test_names_of_other_libraries_are_in_the_index_and_on_the_page(pages):
    whole = "\n".join(pages.values())
    named = {name for rows in TABLE.values() for row in rows for name in row.names.split()}
    assert {"Linear", "CrossEntropyLoss"} <= named
    known = {f"nn.{row.target}": row.names.split() for rows in TABLE.values() for row in rows}
    assert known.keys() <= {entry.shown for entry in ENTRIES}
    assert [name for name in named if f"{{index}} single: {name}\n" not in whole or f"`{name}`" not in whole] == []
    assert "`kernel_size`" in pages["api/layers.md"]


def test_signatures_keep_the_names_of_types():
    shown = {entry.shown: api.signature(entry) for entry in ENTRIES}
    assert shown["nn.relu"] == "(x: ArrayLike) -> Array"
    assert "mask: Mask=None" in shown["nn.adam"]
    assert shown["nn.Layer"].endswith("name: str, numbered: bool = False)")


def test_lists_tables_and_formulas_of_docstrings():
    assert markdown.paragraph("* a\n  b\n* c") == "- a b\n- c"
    assert markdown.paragraph("- a\n- b") == "- a\n- b"
    assert markdown.paragraph("| a | b |\n|---|---|\n| `c` | d_e |").endswith("| `c` | d\\_e |")
    assert markdown.paragraph("    y = x\n      + 1") == "```text\ny = x\n  + 1\n```"


def test_special_characters_are_escaped():
    text = "a*b_c [n] <x> |y| `k*l`\n    - 1. x"
    assert markdown.escaped(text) == r"a\*b\_c \[n\] \<x\> \|y\| `k*l` - 1. x"
    assert [markdown.escaped(line) for line in ("- a", "1. a", "+1")] == [r"\- a", r"1\. a", r"\+1"]
    assert markdown.table(("a", "b"), [("`x|y`", "")]) == "| a | b |\n| --- | --- |\n| `x\\|y` |   |"


def test_tables_of_libraries_have_all_their_names_and_known_ones_alone():
    table = {name for rows in TABLE.values() for row in rows for name in row.names.split()}
    tables = coming.tables()
    for library, entry in json.loads(coming.LIBRARIES.read_text()).items():
        assert set(entry["names"]) <= table
        text = tables[f"_made/names_{library}.md"]
        assert [name for name in entry["names"] if f"`{name}`" not in text] == []
        page = (api.ROOT / "docs" / "coming" / f"{library}.md").read_text()
        assert f"../_made/names_{library}.md" in page


def test_every_example_and_every_result_has_its_place():
    made = gallery.pages()
    examples = {path.stem for path in (api.ROOT / "examples").glob("[a-z]*.py")}
    listed = {name.removeprefix("gallery/").removesuffix(".md") for name in made if name.startswith("gallery/")}
    assert listed == examples | {"index"}
    assert examples <= set(re.findall(r"\]\((\w+)\.md\)", made["gallery/index.md"]))
    assert "jax 0.10.2, optax 0.2.8, cpu, 2 cores" in made["_made/results.md"]


PAGES = {
    path.stem: path.read_text()
    for path in (api.ROOT / "docs" / "start").glob("*.md")
    if "```python" in path.read_text()
}


@pytest.mark.parametrize("name", PAGES)
def test_the_notebook_of_a_page_has_its_code_and_its_prose(name):
    cells = json.loads(notebooks.notebook(PAGES[name]))["cells"]
    code = ["".join(cell["source"]) + "\n" for cell in cells if cell["cell_type"] == "code"]
    assert code == re.findall(r"```python\n(.*?)```", PAGES[name], re.DOTALL)
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert prose.startswith(PAGES[name].split("\n")[0])
    assert "```" not in prose
    assert ".md)" not in prose
    assert len({cell["id"] for cell in cells}) == len(cells)


def test_the_picture_of_the_rooms_has_every_room_above_those_that_it_imports():
    public = {
        path.name.removesuffix(".py") for path in rooms.PACKAGE.iterdir() if re.fullmatch(r"[a-z]\w*(\.py)?", path.name)
    }
    height = {name: i for i, row in enumerate(rooms.rows()) for name in row}
    assert height.keys() == public - {"types"}
    assert all(height[name] > height[other] for name, own in rooms.imports().items() for other in own)
    assert re.findall(r">(\w+)</text>", rooms.svg()) == [name for row in rooms.rows() for name in row]
    assert rooms.MARK in (api.ROOT / "docs" / "architecture.md").read_text()
