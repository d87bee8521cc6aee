"""Metrics: (prediction, target) -> number, for reading and not for training: their gradients are 0 or undefined.

All are pure functions of fixed shapes, for `jit`, `vmap` and `scan`, and their results are float32. In all of them:

* Shapes and dtypes are checked as in `jaxnn.losses`: nothing is broadcast.
* `where`, a boolean mask of the examples, leaves out those where it is False, whatever they hold: padding. `weights`
  counts an example that many times (scikit-learn's `sample_weight`), and 0 times leaves it out too.
* Of no examples the result is NaN, and so it is where a ratio has no meaning, unless a docstring says otherwise.

`accuracy`, `binary_accuracy` and `top_k_accuracy` are means over examples: a total and a count, which a trainer adds up
over batches of any size, whatever counts in them. So is `recall_at_k`, over the batch that it searches. The others are
not: they take the predictions of the whole set at once, and the mean of their values over batches is another number.
Only `confusion_matrix` adds up.
"""

from typing import TYPE_CHECKING

from jaxnn import _elsewhere
from jaxnn.metrics.classification import accuracy, binary_accuracy, expected_calibration_error, top_k_accuracy
from jaxnn.metrics.counts import confusion_matrix, f1, iou, precision, recall
from jaxnn.metrics.detection import mean_average_precision
from jaxnn.metrics.ranking import pr_auc, recall_at_k, roc_auc
from jaxnn.metrics.regression import r2

__all__ = [
    "accuracy",
    "binary_accuracy",
    "confusion_matrix",
    "expected_calibration_error",
    "f1",
    "iou",
    "mean_average_precision",
    "pr_auc",
    "precision",
    "r2",
    "recall",
    "recall_at_k",
    "roc_auc",
    "top_k_accuracy",
]


if not TYPE_CHECKING:  # a type checker shall see which names there are

    def __getattr__(name):
        raise _elsewhere.missing(__name__, name)
