"""Findings about a run, and the report that shows them in a terminal, in a notebook and as a picture."""

from __future__ import annotations

import html
import textwrap
from typing import Any, NamedTuple

import numpy as np

HEADER = ("finding", "figure", "layer", "why", "fix")
WIDTH = 100  # characters of a line in a terminal
TINY = 1e-12  # bar of a value 0


class Finding(NamedTuple):
    """One fault of a run.

    Attributes:
      name: name of the fault, such as "dead units".
      figure: the measured value that shows it, as text.
      path: path of the layer or param; "" if it concerns the data or the whole run.
      why: reason why it matters.
      fix: remedy, a line of code if possible.

    >>> Finding("imbalance", "class 1 is 2 % of train", "", "A constant answer is nearly right.", "class weights").name
    'imbalance'
    """

    name: str
    figure: str
    path: str
    why: str
    fix: str


class Report(NamedTuple):
    """Findings of `nn.diagnose`, the most fundamental first, and all measured figures. Prints as a table.

    Attributes:
      findings: tuple of `Finding`; empty for a run without a known fault.
      figures: measurement -> number, or a dict of numbers by layer.
      hints: tuple of `Finding` for properties that cost little; `names` does not contain them.

    >>> report = Report((Finding("imbalance", "class 1: 2 %", "", "It is rare.", "Weigh it."),), {"best constant": 0.1})
    >>> report.names, report.as_dict()["findings"][0]["figure"]
    (('imbalance',), 'class 1: 2 %')
    >>> print(report)
    1 finding
    <BLANKLINE>
    imbalance: class 1: 2 %
      why  It is rare.
      fix  Weigh it.
    """

    findings: tuple[Finding, ...]
    figures: dict[str, Any]
    hints: tuple[Finding, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the findings."""
        return tuple(finding.name for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """The report as dicts, lists, strings and numbers, as JSON holds them."""
        named = {name: [f._asdict() for f in getattr(self, name)] for name in ("findings", "hints")}
        return {**named, "figures": _plain(self.figures)}

    def __str__(self) -> str:
        n = len(self.findings)
        title = f"{n} finding{'s' * (n != 1)}" if n else "no findings"
        hints = (f"hint: {_text(hint)}" for hint in self.hints)
        return "\n\n".join([title, *map(_text, self.findings), *hints])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        def line(cells: tuple[str, ...], tag: str) -> str:
            style = ' style="text-align:left;vertical-align:top"'
            return "<tr>" + "".join(f"<{tag}{style}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

        hints = [f._replace(name=f"hint: {f.name}") for f in self.hints]
        if not (rows := [*self.findings, *hints]):
            return "<p>no findings</p>"
        return f"<table>{line(HEADER, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"

    def plot(self, axes: Any = None) -> Any:
        """Picture of the figures: losses at scaled rates, outputs and gradients by layer. Requires matplotlib.

        Args:
          axes: three axes of matplotlib; None makes a figure.

        Returns:
          The figure.
        """
        if axes is None:
            import matplotlib.pyplot as plt

            _, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
        _curves(axes[0], self.figures)
        _bars(axes[1], self.figures.get("outputs", {}), "standard deviation of the output", "std")
        _bars(axes[2], self.figures.get("gradients", {}), "root mean square of the gradient", None)
        return axes[0].figure


def _text(finding: Finding) -> str:
    head = f"{finding.name}{f' at {finding.path}' if finding.path else ''}: {finding.figure}"
    lines = [head]
    for label, text in (("why", finding.why), ("fix", finding.fix)):
        lines += textwrap.wrap(text, WIDTH, initial_indent=f"  {label}  ", subsequent_indent=" " * 7)
    return "\n".join(lines)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    return np.asarray(value).tolist()


def _curves(axes: Any, figures: dict[str, Any]) -> None:
    for scale, losses in figures.get("losses", {}).items():
        axes.plot(losses, label=f"{scale:g} x rate", lw=2 if scale == 1 else 1, zorder=3 if scale == 1 else 2)
    if "best constant" in figures:
        axes.axhline(figures["best constant"], color="0.4", ls="--", lw=1, label="best constant")
        axes.set_ylim(0, 2.5 * max(figures["best constant"], 1e-6))
    axes.set(xlabel="step", ylabel="training loss", title="short runs at scaled rates")
    axes.legend(fontsize=8)


def _bars(axes: Any, named: dict[str, Any], title: str, field: str | None) -> None:
    values = [max(float(v if field is None else getattr(v, field)), TINY) for v in named.values()]
    axes.barh(range(len(values)), values)
    axes.set_yticks(range(len(values)), labels=list(named), fontsize=7)
    axes.invert_yaxis()
    axes.set(xscale="log", title=title)
    if values:  # whole decades, so that only they have labels
        low, high = np.floor(np.log10([0.8 * min(values), max(values)]))
        axes.set_xlim(10**low, 10 ** (high + 1))
        axes.xaxis.set_minor_formatter("")
