"""Diagnosis of training runs: `nn.diagnose`, and its measurements as pure functions."""

from typing import TYPE_CHECKING

from jaxnn import _elsewhere
from jaxnn.diagnosis._baselines import Scores, baseline_scores, best_constant
from jaxnn.diagnosis._curvature import sharpness
from jaxnn.diagnosis._curves import LearningCurve, fitted, learning_curve
from jaxnn.diagnosis._data import class_fractions, determination, duplicates
from jaxnn.diagnosis._diagnose import diagnose
from jaxnn.diagnosis._gradients import gradient_sizes, update_ratios
from jaxnn.diagnosis._labels import Failures, LabelNoise, failures, label_noise
from jaxnn.diagnosis._losses import kind_of
from jaxnn.diagnosis._noise import noise_scale
from jaxnn.diagnosis._outputs import Outputs, observe, outputs
from jaxnn.diagnosis._overfit import Overfit, overfit_sample
from jaxnn.diagnosis._probe import probe, scaled_step
from jaxnn.diagnosis._range import RangeTest, range_test
from jaxnn.diagnosis._report import Finding, Report
from jaxnn.diagnosis._watch import watch

__all__ = [
    "Failures",
    "Finding",
    "LabelNoise",
    "LearningCurve",
    "Outputs",
    "Overfit",
    "RangeTest",
    "Report",
    "Scores",
    "baseline_scores",
    "best_constant",
    "class_fractions",
    "determination",
    "diagnose",
    "duplicates",
    "failures",
    "fitted",
    "gradient_sizes",
    "kind_of",
    "label_noise",
    "learning_curve",
    "noise_scale",
    "observe",
    "outputs",
    "overfit_sample",
    "probe",
    "range_test",
    "scaled_step",
    "sharpness",
    "update_ratios",
    "watch",
]


if not TYPE_CHECKING:

    def __getattr__(name):
        raise _elsewhere.missing(__name__, name)
