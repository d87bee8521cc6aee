"""Language of the package: first lines, order of the blocks of a docstring, listed arguments, and banned words."""

import ast
import re
import tokenize
from pathlib import Path

import pytest

import jaxnn as nn

PACKAGE = Path(nn.__file__).parent

BLOCKS = ("Args", "Attributes", "Returns", "Raises", "Differences", "Reference", ">>>")  # in this order
QUESTION = re.compile(r"(What|Which|Whether|Where|How)\b")

# Pattern -> plainer words. Matched in docstrings without code, and in comments.
BANNED = {
    r"\bwhole numbers?\b": "integer",
    r"\bread(s|ing)? between\b": "interpolate",
    r"\bway around\b": "skip connection",
    r"\bgo(es)? before\b": "overrides, precedes",
    r"\bby (itself|themselves)\b": "automatically, independently",
    r"\b(what|that|which) (is|are) no\b": "is not a, non-X",
    r"\bto be had\b": "available",
    r"\bno more\b(?! than)": "no longer",
    r"\bg(o|oes|one|oing) on (with|from)\b": "resume",
    r"\bfor the caller to\b": "the caller must",
    r"\bh(as|ave) to say\b": "describe it",
    r"\bsuch (a|an) one\b": "name it",
    r"\bas [\w`.']+ has it\b": "as in",
    r"\band the like\b": "and similar X",
    r"\b[Ww]hich shares?\b|\bshares? of\b": "fraction",
    r"\bdear(er|est)?\b": "expensive",
    r"\blikeliest\b": "most likely",
    r"\b(whoever|whence|thereof|whereof|wherein|lest|nought|anew|henceforth|hitherto|shall)\b": "modern words",
    r"\b[Ii]t hurts\b|\bhurts (where|by|as|in)\b": "Avoid it for, drawback",
    r"\b(its|their|and) kin\b": "related X",
    r"\bthe other way round\b": "in reverse order",
    r"\bgo(es)? round\b": "iterates",
    r"\bbe (it|they) \w+ or\b": "even if",
    r"\bof one (shape|length|rank|dtype|structure)\b": "of equal X",
    r"\b(of|for|by|on) what\b": "name the thing",
    r"(^|[.;:] )Of (a|an|the|no|several|some|one|[a-z]+s) ": "put the subject first",
    r"\b(nor|neither) (do|does|is|are|has|have)\b": "put the subject first",
    r"\band so (do|does|is|are|has|have)\b": "repeat the verb",
    r"\b(asks|asking) for\b": "requires",
    r"\bhand(s|ed|ing)? (on|over|away|out)\b": "pass, return, delegate",
    r"\bin the place of\b": "in place of",
    r"\bfor good\b": "permanently",
    r"\bwants\b": "needs",
    r"\bbeside\b": "next to, in addition to",
    r"\bgo(es)? by\b": "uses, follows",
    r"\btakes? it for\b|\btaken for\b": "treats as",
    r"\brow of keys\b": "batch of keys",
    r"\bknows? nothing\b|\bnothing is known\b": "unknown, uninformative",
    r"\bstranges?\b": "name the fault",
    r"\bsays? (it|so|how|which|what)\b": "declares, names",
    r"\bblind to\b": "ignores",
    r"\btold apart\b": "distinguished",
    r"\b(comes?|came) to nothing\b": "is 0",
    r"\bone after the other\b": "consecutive, sequentially",
    r"\b[Ww]hat (each|every|the|an?|they|it|is|are|needs?|comes?)\b": "name the thing",
    r"\bfinite no\b": "non-finite",
    r"\bthe more so\b": "one fact a sentence",
    r"\bmakes? of (it|them|him)\b": "computes from it",
    r"\bis (to be )?(had|done without)\b": "is available, is omitted",
}
CONVOLUTIONS = {r"\bwindows?\b": "kernel size, kernel"}  # in convolution and pooling


def relative(path):
    return path.relative_to(PACKAGE).as_posix()


FILES = {relative(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}


def listed(tree):
    """Names in a module's `__all__`."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return {c.value for c in ast.walk(node.value) if isinstance(c, ast.Constant) and isinstance(c.value, str)}
    return set()


def exported():
    """Pairs (module file, name) that stand in the `__all__` of the module or of a package that imports the name."""
    found = set()
    for name, tree in TREES.items():
        public = listed(tree)
        found |= {(name, n) for n in public}
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxnn"):
                base = "/".join(node.module.split(".")[1:])
                names = {alias.name for alias in node.names if (alias.asname or alias.name) in public}
                found |= {(f"{base}{end}", n) for end in (".py", "/__init__.py") for n in names}
    return found


EXPORTED = exported()


def documented(tree):
    """(qualified name, node, docstring) of everything in a module that has a docstring."""
    found = [("module", tree)]

    def walk(node, prefix):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                found.append((prefix + child.name, child))
                walk(child, f"{prefix}{child.name}.")
            else:
                walk(child, prefix)

    walk(tree, "")
    return [(name, node, doc) for name, node in found if (doc := ast.get_docstring(node))]


def heading(paragraph):
    """The block that a paragraph opens, or None."""
    if paragraph.startswith(">>>"):
        return ">>>"
    match = re.match(r"([A-Z][a-z]+):(\s|$)", paragraph)
    return match[1] if match and match[1] in BLOCKS else None


def faults_of_form(doc):
    """First line, and order of the blocks."""
    first, *rest = doc.split("\n")
    if QUESTION.match(first.lstrip('`" ')):
        yield f"the first line begins with {first.split()[0]}"
    if rest and rest[0].strip():
        yield "no blank line after the first line"
    paragraphs = re.split(r"\n\s*\n", doc)
    seen = []
    for paragraph in paragraphs[1:]:
        head = heading(paragraph)
        if head:
            seen.append(head)
        elif seen and (seen[-1] == ">>>" or not paragraph.startswith(" ")):
            yield f"text without a heading after {seen[-1]}: {paragraph[:40]!r}"
        elif re.match(r"(Raises|Returns|As) [A-Za-z]", paragraph):
            yield f"no heading: {paragraph[:40]!r}"
    blocks = [head for i, head in enumerate(seen) if not (head == ">>>" and head in seen[:i])]
    if blocks != sorted(set(blocks), key=BLOCKS.index):
        yield f"blocks in the order {', '.join(blocks)}"


def entries(doc, head):
    """Names listed in a block: `a:` or `a, b:` at an indent of two."""
    block = re.search(rf"^{head}:\n((?:  .*\n?|\s*\n)*)", doc, re.MULTILINE)
    lines = re.findall(r"^  (\*{0,2}\w+(?:, \*{0,2}\w+)*):", block[1] if block else "", re.MULTILINE)
    return {name.strip("* ") for line in lines for name in line.split(",")}


def faults_of_lists(node, doc):
    """Arguments of a public function that Args lacks, fields of a public record that Attributes lacks."""
    if isinstance(node, ast.FunctionDef):
        a = node.args
        every = [*a.posonlyargs, *a.args, *filter(None, [a.vararg]), *a.kwonlyargs, *filter(None, [a.kwarg])]
        head, names = "Args", [arg.arg for arg in every]
    elif isinstance(node, ast.ClassDef) and any(isinstance(b, ast.Name) and b.id == "NamedTuple" for b in node.bases):
        head, names = "Attributes", [n.target.id for n in node.body if isinstance(n, ast.AnnAssign)]
    else:
        return
    missing = [name for name in names if name not in entries(doc, head) and not name.startswith("_")]
    if missing:
        yield f"{head} without {', '.join(missing)}"


def prose(doc):
    """A docstring as one line, without doctests, names of arguments, code in backticks and quoted strings."""
    doc = re.sub(r"^  \*{0,2}\w+(, \*{0,2}\w+)*:", "", doc, flags=re.MULTILINE)
    lines = [line for line in doc.split("\n>>>")[0].split("\n") if not line.startswith(">>>")]
    return re.sub(r"`[^`]*`|\"[^\"]*\"", "`", re.sub(r"\s+", " ", " ".join(lines)))


def faults_of_words(text, words):
    for pattern, better in words.items():
        if match := re.search(pattern, text):
            yield f"{match[0].strip()!r}: {better}"


def comments(path):
    """Comments of a file, those on successive lines as one."""
    found, last = [], -1
    with path.open() as file:
        for token in tokenize.generate_tokens(file.readline):
            if token.type == tokenize.COMMENT and "type: ignore" not in token.string:
                text = token.string.lstrip("# ")
                if token.start[0] == last + 1 and token.line.lstrip().startswith("#"):
                    found[-1] = (found[-1][0], f"{found[-1][1]} {text}")
                else:
                    found.append((f"comment in line {token.start[0]}", text))
                last = token.start[0]
    return found


def faults(name):
    words = BANNED | CONVOLUTIONS if re.search("conv|pool", name) else BANNED
    found = []
    for what, node, doc in documented(TREES[name]):
        new = [*faults_of_form(doc), *faults_of_words(prose(doc), words)]
        if (name, what) in EXPORTED:
            new += faults_of_lists(node, doc)
        found += [f"{what}: {fault}" for fault in new]
    for what, text in comments(FILES[name]):
        found += [f"{what}: {fault}" for fault in faults_of_words(re.sub("`[^`]*`", "`", text), words)]
    return found


def messages(tree):
    """(line, text) of all strings of several words that are no docstrings: the texts of errors and warnings."""
    nodes = list(ast.walk(tree))
    others = {id(n.value) for n in nodes if isinstance(n, ast.Expr)}
    others |= {id(part) for n in nodes if isinstance(n, ast.JoinedStr) for part in n.values}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(p.value if isinstance(p, ast.Constant) else "`" for p in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in others:
            yield node.lineno, node.value


@pytest.mark.parametrize("name", FILES)
def test_messages(name):
    words = BANNED | CONVOLUTIONS if re.search("conv|pool", name) else BANNED
    found = [f"line {n}: {fault}" for n, text in messages(TREES[name]) for fault in faults_of_words(text, words)]
    assert found == []


@pytest.mark.parametrize("name", FILES)
def test_docstrings_and_comments(name):
    assert faults(name) == []


GOOD = """Sum of a and b, [...], [...] -> [...].

    a + b

Args:
  a, b: arrays of equal shape.

Raises:
  ValueError: if the shapes differ.

Differences: nothing is broadcast.

>>> 1 + 1
2
"""
DIFFERENCES = "Differences: nothing is broadcast.\n\n"
BAD = {
    "the first line begins with What": GOOD.replace("Sum of a", "What a"),
    "no blank line after the first line": GOOD.replace("[...].\n\n", "[...].\n"),
    "blocks in the order Differences, Args, Raises, >>>": GOOD.replace(DIFFERENCES, "").replace(
        "Args:", DIFFERENCES + "Args:"
    ),
    "no heading: 'Raises ValueError.'": GOOD.replace("Args:", "Raises ValueError.\n\nArgs:"),
    "text without a heading after >>>: 'More.'": GOOD + "\nMore.",
    "text without a heading after Raises: 'More.'": GOOD.replace("Differences:", "More.\n\nDifferences:"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_fault_of_form_is_found(fault):
    assert list(faults_of_form(GOOD.strip())) == []
    assert list(faults_of_form(BAD[fault].strip())) == [fault]


def test_a_missing_argument_is_found():
    add = ast.parse("def add(a, b, *, name): pass").body[0]
    assert list(faults_of_lists(add, GOOD)) == ["Args without name"]


WORDS = {
    "Widths are whole numbers.": ["'whole numbers': integer"],
    "Weights are made by itself.": ["'by itself': automatically, independently"],
    "Sums. Of no examples it is NaN.": ["'. Of no': put the subject first"],
    "The number of integers is a fraction.": [],
}


@pytest.mark.parametrize("text", WORDS)
def test_a_banned_word_is_found(text):
    assert list(faults_of_words(prose(text), BANNED)) == WORDS[text]
