"""Metrics: (prediction, target) -> number, for evaluation, not for training: their gradients are 0 or undefined.

All are pure functions of fixed shapes that work under `jit`, `vmap` and `scan` and return float32. These rules hold for
all metrics:

* Shapes and dtypes are checked as in `jaxnn.losses`; nothing is broadcast.
* `where` is a boolean mask of the examples: those where it is False are excluded, whatever their values (padding).
  `weights` counts an example that many times (scikit-learn's `sample_weight`); weight 0 excludes it.
* Without examples the result is NaN. A ratio 0 / 0 is NaN, too, unless the docstring says otherwise.

`accuracy`, `binary_accuracy` and `top_k_accuracy` are means over examples: a trainer adds up their totals and counts
over batches of any size and mask, and those of `retrieval_average_precision`, a mean over queries. `recall_at_k` is
added up the same way, but each batch is searched separately. All other metrics need the predictions of the whole data
set: the mean of their values over batches is a different number. Of these, only the `confusion_matrix` of batches can
be added up.

`frechet_distance` compares two sets of features, of any sizes >= 2, and takes neither a mask nor weights.
"""

from typing import TYPE_CHECKING

from jaxnn import _elsewhere
from jaxnn.metrics._calibration import calibration_temperature
from jaxnn.metrics._classification import accuracy, binary_accuracy, expected_calibration_error, top_k_accuracy
from jaxnn.metrics._counts import confusion_matrix, f1, iou, precision, recall
from jaxnn.metrics._detection import mean_average_precision
from jaxnn.metrics._frechet import frechet_distance
from jaxnn.metrics._ranking import pr_auc, recall_at_k, retrieval_average_precision, roc_auc
from jaxnn.metrics._regression import r2

__all__ = [
    "accuracy",
    "binary_accuracy",
    "calibration_temperature",
    "confusion_matrix",
    "expected_calibration_error",
    "f1",
    "frechet_distance",
    "iou",
    "mean_average_precision",
    "pr_auc",
    "precision",
    "r2",
    "recall",
    "recall_at_k",
    "retrieval_average_precision",
    "roc_auc",
    "top_k_accuracy",
]


if not TYPE_CHECKING:  # lets type checkers report names that do not exist

    def __getattr__(name):
        raise _elsewhere.missing(__name__, name)
