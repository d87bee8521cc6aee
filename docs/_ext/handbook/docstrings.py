"""Docstrings of the package as parts: first line, prose and formulas, named blocks, examples.

The blocks have the names and the order that tests/conformance/test_language.py checks.
"""

import inspect
import re
from typing import NamedTuple

BLOCKS = ("Args", "Attributes", "Returns", "Raises", "Differences", "Reference")


class Docstring(NamedTuple):
    """A docstring in parts.

    Attributes:
      first: the first paragraph, one line.
      prose: the paragraphs before the first block; those that are indented are formulas.
      blocks: text of each block by its name, without the name.
      examples: the doctests, as they stand.
    """

    first: str
    prose: list[str]
    blocks: dict[str, str]
    examples: list[str]


def parse(doc: str) -> Docstring:
    """The parts of a docstring.

    >>> parse("Sum of x.\\n\\n    Σ x\\n\\nArgs:\\n  x: array.\\n\\n>>> 1 + 1\\n2\\n")
    Docstring(first='Sum of x.', prose=['    Σ x'], blocks={'Args': '  x: array.'}, examples=['>>> 1 + 1\\n2'])
    """
    first, *paragraphs = re.split(r"\n(?:\s*\n)+", inspect.cleandoc(doc))
    prose, blocks, examples = [], {}, []
    block = None
    for paragraph in paragraphs:
        paragraph = paragraph.rstrip()
        heading = re.match(rf"({'|'.join(BLOCKS)}):\s", paragraph)
        if paragraph.startswith(">>>"):
            examples.append(paragraph)
        elif heading:
            block = heading[1]
            text = paragraph.removeprefix(f"{block}:")
            blocks[block] = text.removeprefix("\n") if text.startswith("\n") else text.lstrip(" ")
        elif examples and block is None:
            examples.append(paragraph)
        elif block:
            blocks[block] += f"\n\n{paragraph}"
        else:
            prose.append(paragraph)
    return Docstring(" ".join(first.split()), prose, blocks, examples)


def entries(block: str) -> list[tuple[str, str]]:
    """Pairs (names, text) of a block of entries `  a, b: text`; [] if it is prose.

    >>> entries("  a, b: arrays,\\n    of equal shape.\\n  c: a number.")
    [('a, b', 'arrays, of equal shape.'), ('c', 'a number.')]
    """
    found = []
    for line in block.split("\n"):
        entry = re.match(r"  (\*{0,2}\w+(?:, \*{0,2}\w+)*):(?:\s+(.*))?$", line)
        if entry:
            found.append([entry[1], entry[2] or ""])
        elif found:
            found[-1][1] += f" {line.strip()}"
        elif line.strip():
            return []
    return [(names, text.strip()) for names, text in found]
