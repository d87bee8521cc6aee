"""Reference pages: one for each room, from `__all__` and the docstrings, as Markdown for MyST."""

import ast
import inspect
import re
import textwrap
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jaxnn as nn
from handbook import docstrings, markdown
from jaxnn._elsewhere import TABLE

ROOT = Path(__file__).parents[3]


class Entry(NamedTuple):
    """A public function or class.

    Attributes:
      shown: name as users write it, `nn.losses.huber`.
      module: importable module that has the name, `jaxnn.losses`.
      name: name in that module.
      thing: the function or class.
    """

    shown: str
    module: str
    name: str
    thing: Any

    @property
    def target(self) -> str:
        """Name under which other pages refer to it."""
        return f"{self.module}.{self.name}"


class Room(NamedTuple):
    """A page of the reference.

    Attributes:
      name: of the room, as in `nn.<name>`; "nn" for the names of the top level that are in no room.
      module: the module.
      entries: its public names.
    """

    name: str
    module: ModuleType
    entries: list[Entry]


def listed(module: ModuleType) -> dict[str, Any]:
    """Values of the names in `__all__`."""
    return {name: getattr(module, name) for name in getattr(module, "__all__", ())}


def public(module: ModuleType) -> dict[str, Any]:
    """Public functions and classes of a module by name."""
    return {name: thing for name, thing in listed(module).items() if not isinstance(thing, ModuleType)}


def rooms_of(module: ModuleType) -> dict[str, ModuleType]:
    """Public modules of a module by name."""
    return {name: thing for name, thing in listed(module).items() if isinstance(thing, ModuleType)}


@cache
def rooms() -> list[Room]:
    """Every room of the package, the top level first."""
    named, modules = rooms_of(nn), {}
    for name, module in named.items():
        inner = {own: within for own, within in rooms_of(module).items() if within not in named.values()}
        modules |= {name: module} | {f"{name}.{own}": within for own, within in inner.items()}
    top = public(nn)
    found = []
    for name, module in modules.items():
        entries = []
        for own, thing in public(module).items():
            if top.get(own) is thing:
                entries.append(Entry(f"nn.{own}", "jaxnn", own, thing))
            else:
                entries.append(Entry(f"nn.{name}.{own}", module.__name__, own, thing))
        found.append(Room(name, module, entries))
    held = {id(entry.thing) for room in found for entry in room.entries}
    rest = [Entry(f"nn.{name}", "jaxnn", name, thing) for name, thing in top.items() if id(thing) not in held]
    return [Room("nn", nn, rest), *found]


def pages() -> dict[str, str]:
    """Markdown of the reference by file name, the index included."""
    made = {f"api/{room.name}.md": room_page(room) for room in rooms()}
    rows = [
        ("[nn](nn.md)", "Layers made of layers, calls, summaries, exports, compilation.", str(len(rooms()[0].entries))),
        *((f"[nn.{r.name}]({r.name}.md)", purpose(r.module), str(len(r.entries) or "")) for r in rooms()[1:]),
    ]
    made["api/index.md"] = markdown.page(
        [
            "# API",
            "A page for each room. `import jaxnn as nn`; layers, activations, optimizers and functions of training are "
            "also names of the top level: `nn.layers.dense` is `nn.dense`. Names of other libraries are in "
            "[a table](../names.md), in the index and in the search.",
            markdown.table(("room", "contents", "names"), rows),
            toctree([room.name for room in rooms()]),
        ]
    )
    return made | tests_pages()


def toctree(names: list[str], *, caption: str = "", depth: int = 1) -> str:
    """A hidden table of contents: links in the side bar alone."""
    options = [":hidden:", f":maxdepth: {depth}", *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["```{toctree}", *options, "", *names, "```"])


def purpose(module: ModuleType) -> str:
    """The first line of a module's docstring as Markdown, without its title."""
    first = docstrings.parse(module.__doc__ or "").first
    title, _, rest = first.partition(": ")
    return markdown.escaped(rest[:1].upper() + rest[1:] if rest and len(title) < 30 else first)


def room_page(room: Room) -> str:
    """Markdown of a room: a table of its names, then an entry for each, by source file and line."""
    doc = docstrings.parse(room.module.__doc__ or "")
    parts = [f"# {'nn' if room.name == 'nn' else f'nn.{room.name}'}"]
    if room.name == "nn":
        parts += ["Names of the top level that belong to no room. The others are on the pages of their rooms."]
    else:
        parts += [markdown.escaped(doc.first), *map(markdown.paragraph, doc.prose)]
    files: dict[str, list[Entry]] = {}
    for entry in sorted(room.entries, key=place):
        files.setdefault(place(entry)[0], []).append(entry)
    for path, entries in files.items():
        if len(files) > 1:
            first = docstrings.parse(ast.get_docstring(ast.parse(Path(path).read_text())) or "").first
            title, _, rest = first.partition(": ")
            parts += [f"## {markdown.escaped(title.rstrip('.'))}", markdown.escaped(rest[:1].upper() + rest[1:])]
        rows = [(f"{{py:obj}}`{e.shown} <{e.target}>`", markdown.escaped(brief(e))) for e in entries]
        parts += [markdown.table(("name", ""), rows)] if len(entries) > 1 else []
        parts += [part for entry in entries for part in (*place_in(room, entry), entry_text(entry))]
    if not room.entries:
        parts += [markdown.table(("name", "", "is"), aliases(room.module))]
    return markdown.page(parts)


def place_in(room: Room, entry: Entry) -> list[str]:
    """A place for the name in its room, if the entry has the name of the top level: pages of source code link to it."""
    own = f"{room.module.__name__}.{entry.name}"
    return [] if own == entry.target else [f'<span id="{own}"></span>']


def brief(entry: Entry) -> str:
    """The first line of a docstring up to the shapes or the formula."""
    first = docstrings.parse(entry.thing.__doc__ or "").first
    return re.split(r",? \[|: |; ", first)[0].rstrip(".")


def place(entry: Entry) -> tuple[str, int]:
    """Source file and line of an entry."""
    thing = inspect.unwrap(entry.thing)
    try:
        return inspect.getsourcefile(thing) or "", inspect.getsourcelines(thing)[1]
    except (TypeError, OSError):
        return "", 0


def definition(thing: Any) -> ast.FunctionDef | ast.ClassDef | None:
    """The syntax tree of a function or class."""
    try:
        node = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(thing)))).body[0]
    except (TypeError, OSError):
        return None
    return node if isinstance(node, ast.FunctionDef | ast.ClassDef) else None


def signature(entry: Entry) -> str:
    """Arguments and result as the source has them, with the names of types unexpanded."""
    node = definition(entry.thing)
    if isinstance(node, ast.FunctionDef):
        return f"({ast.unparse(node.args)})" + (f" -> {ast.unparse(node.returns)}" if node.returns else "")
    fields = [ast.unparse(n) for n in getattr(node, "body", []) if isinstance(n, ast.AnnAssign)]
    return f"({', '.join(fields)})" if fields else ""


def entry_text(entry: Entry) -> str:
    """Markdown of one function or class."""
    kind = "class" if inspect.isclass(entry.thing) else "function"
    doc = docstrings.parse(entry.thing.__doc__ or "")
    home = f"{entry.thing.__module__}.{entry.thing.__name__}"
    parts = [
        f"::::{{py:{kind}}} {entry.name}{signature(entry)}\n:module: {entry.module}"
        + (f"\n:canonical: {home}" if entry.name == entry.thing.__name__ and home != entry.target else ""),
        index_of(entry),
        markdown.escaped(doc.first),
        *map(markdown.paragraph, doc.prose),
    ]
    for head, title in (("Args", "argument"), ("Attributes", "attribute")):
        if head in doc.blocks:
            rows = [(names(listed), markdown.escaped(text)) for listed, text in docstrings.entries(doc.blocks[head])]
            parts.append(markdown.table((title, "meaning"), rows))
    if inspect.isclass(entry.thing):
        parts.append(methods(entry.thing))
    for head in ("Returns", "Raises", "Differences", "Reference"):
        if head in doc.blocks:
            parts.append(block(head, doc.blocks[head]))
    others = elsewhere().get(entry.shown.removeprefix("nn."), [])
    if others:
        parts.append("**Elsewhere:** " + ", ".join(f"`{name}`" for name in others))
    parts += [markdown.fenced(example, "pycon") for example in doc.examples]
    test = test_of(entry)
    if test:
        parts.append(f"[Tests: {markdown.escaped(test)}](../{page_of_test(test)}.md)")
    return markdown.page(parts) + "\n::::"


def names(listed: str) -> str:
    """Names of arguments as code."""
    return ", ".join(f"`{name}`" for name in listed.split(", "))


def block(head: str, text: str) -> str:
    """A named block of a docstring: prose, or a list of entries."""
    entries = docstrings.entries(text)
    if entries and not text.startswith(tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")):
        return f"**{head}:**\n\n" + "\n".join(f"- `{name}`: {markdown.escaped(said)}" for name, said in entries)
    first, *others = text.split("\n\n")
    return "\n\n".join([f"**{head}:** {markdown.escaped(first)}", *map(markdown.escaped, others)])


def methods(thing: type) -> str:
    """Table of the public methods and properties that a class defines."""
    rows = []
    for name, value in vars(thing).items():
        documented = value.fget if isinstance(value, property) else value
        if not name.startswith("_") and (inspect.isfunction(documented) or isinstance(value, classmethod)):
            call = name if isinstance(value, property) else f"{name}()"
            rows.append((f"`{call}`", markdown.escaped(docstrings.parse(documented.__doc__ or "").first)))
    return markdown.table(("method", ""), rows) if rows else ""


@cache
def elsewhere() -> dict[str, list[str]]:
    """Names in other libraries by name in jaxnn."""
    found: dict[str, list[str]] = {}
    for rows in TABLE.values():
        for row in rows:
            found.setdefault(row.target, []).extend(row.names.split())
    return found


def index_of(entry: Entry) -> str:
    """Entries of the index for the names of other libraries."""
    others = elsewhere().get(entry.shown.removeprefix("nn."), [])
    return "\n\n".join(f"```{{index}} single: {name}\n```" for name in dict.fromkeys(others))


def aliases(module: ModuleType) -> list[tuple[str, str, str]]:
    """Rows of the names of types of a module without `__all__`: name, docstring, definition."""
    body = ast.parse(Path(str(module.__file__)).read_text()).body
    room = module.__name__.replace("jaxnn", "nn", 1)
    return [
        (f"`{room}.{ast.unparse(alias.target)}`", markdown.escaped(text.value.value), f"`{ast.unparse(alias.value)}`")
        for alias, text in pairwise(body)
        if isinstance(alias, ast.AnnAssign) and alias.value and isinstance(text, ast.Expr)
    ]


# Tests: the file of each name, and a page with the code of each file.


@cache
def words() -> dict[str, Counter[str]]:
    """How often each word stands in each test file."""
    return {
        path.relative_to(ROOT).as_posix(): Counter(re.findall(r"[A-Za-z_]\w*", path.read_text()))
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if path.name.startswith("test_") or path.name == "_layer_cases.py"
    }


@cache
def test_of(entry: Entry) -> str | None:
    """Test file of a name: that of its module, else the one of its room, or of all, that has the name most often."""
    module = Path(place(entry)[0])
    room = f"tests/{module.parent.name}/" if module.parent.name != "jaxnn" else "tests/"
    own = f"{room}test_{module.stem.removeprefix('_')}.py"
    counts = {path: count[entry.name] for path, count in words().items() if count[entry.name]}
    near = {path: n for path, n in counts.items() if path.startswith(room) and not path.startswith("tests/conformance")}
    if own in counts:
        return own
    choice = near or counts
    return max(choice, key=lambda path: (choice[path], path)) if choice else None


def page_of_test(path: str) -> str:
    """Name of the page with the code of a test file, without its ending."""
    return f"code/{path.removesuffix('.py')}"


def tests_pages() -> dict[str, str]:
    """A page with the code of each test file that an entry links to; the search leaves them out."""
    used = {test_of(entry) for room in rooms() for entry in room.entries} - {None}
    return {f"{page_of_test(path)}.md": code_page(path) for path in sorted(map(str, used))}


def code_page(path: str) -> str:
    """A page outside the contents with the code of a file."""
    up = "/".join([".."] * (path.count("/") + 2))
    code = f"```{{literalinclude}} {up}/{path}\n:language: python\n```"
    return markdown.page(["---\norphan: true\nnosearch: true\n---", f"# {markdown.escaped(path)}", code])
