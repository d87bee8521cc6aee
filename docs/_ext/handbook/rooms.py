"""Picture of the rooms and of the imports between them, from the source, for the page on the architecture."""

import ast
from functools import cache
from pathlib import Path
from typing import Any

import jaxnn as nn

MARK = "<!-- picture of the rooms -->"
PACKAGE = Path(nn.__file__).parent
WIDTH, ROW, BOX, MARGIN = 1000, 84, 28, 8  # pixels
LETTER = 7.3  # width of a letter
BEND = 30


def imported(path: Path) -> set[str]:
    """First names below `jaxnn` that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if names == ["jaxnn"]:
            names = [f"jaxnn.{alias.name}" for alias in node.names]
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("jaxnn.")}
    return found


@cache
def imports() -> dict[str, frozenset[str]]:
    """Public room -> rooms that it imports, also through private modules, without those that others of them import."""
    files: dict[str, list[Path]] = {}
    for path in PACKAGE.rglob("*.py"):
        files.setdefault(path.relative_to(PACKAGE).parts[0].removesuffix(".py"), []).append(path)
    direct = {name: set().union(*map(imported, paths)) - {name} for name, paths in files.items() if name != "__init__"}

    def public(name: str, seen: frozenset[str] = frozenset()) -> set[str]:
        found = set()
        for other in direct.get(name, set()) - seen:
            found |= public(other, seen | {other}) if other.startswith("_") else {other}
        return found

    known = {name: public(name) - {name, "types"} for name in direct if not name.startswith("_") and name != "types"}

    def below(name: str) -> set[str]:
        return known[name].union(*map(below, known[name]))

    return {name: frozenset(own - set().union(*map(below, own))) for name, own in known.items()}


def rows() -> list[list[str]]:
    """Rooms by their height over the rooms that import none, each near the middle of those that it imports."""
    edges = imports()

    @cache
    def height(name: str) -> int:
        return 1 + max(map(height, edges[name]), default=-1)

    used = {other for own in edges.values() for other in own}
    levels: list[list[str]] = [[] for _ in range(1 + max(map(height, edges)))]
    for name in sorted(edges, key=lambda name: (name not in used, name)):
        levels[height(name)].append(name)
    place: dict[str, float] = {}
    for level in levels:
        middle = {n: sum(place[m] for m in edges[n]) / len(edges[n]) if edges[n] else 0.0 for n in level}
        level.sort(key=lambda n: middle[n])
        place |= {name: (i + 1) / (len(level) + 1) for i, name in enumerate(level)}
    return levels


def svg() -> str:
    """The picture, in the colours of the page."""
    levels = rows()
    height = ROW * len(levels)
    boxes, names, at = [], [], dict[str, tuple[float, float]]()
    for i, level in enumerate(levels):
        widths = [LETTER * len(name) + 2 * MARGIN for name in level]
        gap = (WIDTH - sum(widths)) / (len(level) + 1)
        x, y = gap, height - ROW * (i + 1) + (ROW - BOX) / 2
        for name, width in zip(level, widths, strict=True):
            at[name] = (x + width / 2, y)
            boxes.append(f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{BOX}" rx="5"/>')
            names.append(f'<text x="{x + width / 2:.0f}" y="{y + BOX / 2 + 4:.0f}" text-anchor="middle">{name}</text>')
            x += width + gap
    lines = []
    for name, own in imports().items():
        for other in sorted(own):
            (x1, y1), (x2, y2) = at[name], at[other]
            y1 += BOX
            bend = f"C{x1:.0f},{y1 + BEND:.0f} {x2:.0f},{y2 - BEND:.0f} {x2:.0f},{y2:.0f}"
            lines.append(f'<path d="M{x1:.0f},{y1:.0f} {bend}"/>')
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Rooms, each above those that it imports" '
        'style="width: 100%; font: 12px monospace" fill="currentColor">'
        f'<g fill="none" stroke="currentColor" opacity="0.35">{"".join(lines)}</g>'
        f'<g fill="var(--color-background-primary)" stroke="currentColor">{"".join(boxes)}</g>{"".join(names)}</svg>'
    )


def drawn(app: Any, name: str, source: list[str]) -> None:
    """Puts the picture into the page on the architecture."""
    if name == "architecture":
        source[0] = source[0].replace(MARK, svg())
