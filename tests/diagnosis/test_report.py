"""A report as text, as HTML, as a dict and as a picture."""

import json

import matplotlib as mpl
import numpy as np
import pytest

from jaxnn.diagnosis import Finding, Outputs, Report

FINDING = Finding(
    "dead units", "90 % of <64> units", "block/relu", "A dead unit " + "never recovers. " * 9, "Lower it."
)
FIGURES = {
    "best constant": 1.0,
    "losses": {0.1: np.float32([2.0, 1.5]), 1.0: np.float32([2.0, 0.5])},
    "outputs": {"dense": Outputs(*np.float32([0, 1, 1, 0, 0, 0])), "relu": Outputs(*np.float32([0, 2, 1, 0, 0, 0]))},
    "gradients": {"dense/w": np.float32(0.1)},
}
HINT = Finding("bias without effect", "1 bias", "conv/b", "It costs memory.", "bias=False")
REPORT = Report((FINDING,), FIGURES)


def test_a_report_prints_as_a_note():
    lines = str(REPORT).splitlines()
    assert lines[:3] == ["1 finding", "", "dead units at block/relu: 90 % of <64> units"]
    assert lines[3].startswith("  why  A dead unit never")
    assert lines[-1] == "  fix  Lower it."
    assert max(map(len, lines)) <= 100
    assert str(Report((), {})) == repr(Report((), {})) == "no findings"
    assert str(Report((FINDING, FINDING), {})).startswith("2 findings")
    hinted = Report((), {}, (HINT,))
    assert str(hinted).startswith("no findings\n\nhint: bias without effect at conv/b: 1 bias\n  why  It costs")
    assert hinted.names == ()


def test_a_report_is_a_table_in_a_notebook():
    assert "&lt;64&gt;" in REPORT._repr_html_()
    assert REPORT._repr_html_().count("<tr>") == 2
    assert Report((), {})._repr_html_() == "<p>no findings</p>"
    assert "hint: bias without effect" in Report((), {}, (HINT,))._repr_html_()


def test_a_report_is_a_dict_for_json():
    found = json.loads(json.dumps({**REPORT.as_dict(), "figures": REPORT.as_dict()["figures"]["outputs"]}))
    assert found["findings"] == [FINDING._asdict()]
    assert Report((), {}, (HINT,)).as_dict()["hints"] == [HINT._asdict()]
    assert found["figures"]["relu"]["std"] == 2
    json.dumps(REPORT.as_dict())


@pytest.fixture
def _without_screen():
    before = mpl.get_backend()
    mpl.use("Agg")
    yield
    mpl.use(before)


@pytest.mark.slow
@pytest.mark.usefixtures("_without_screen")
def test_a_report_draws_its_figures():
    figure = REPORT.plot()
    losses, outputs, _ = figure.axes
    assert [np.asarray(line.get_ydata()).tolist() for line in losses.lines][:2] == [[2.0, 1.5], [2.0, 0.5]]
    assert [bar.get_width() for bar in outputs.patches] == [1, 2]
