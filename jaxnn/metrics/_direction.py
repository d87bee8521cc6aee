"""Which way the library's own metrics and losses are better."""

from typing import Literal

LARGER = frozenset(
    {
        "accuracy",
        "binary_accuracy",
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
    }
)
SMALLER = frozenset(
    {
        "absolute_error",
        "binary_cross_entropy",
        "binary_cross_entropy_on_probabilities",
        "contrastive",
        "cosine_distance",
        "cross_entropy_on_log_probabilities",
        "cross_entropy_on_probabilities",
        "ctc",
        "dice",
        "expected_calibration_error",
        "focal",
        "gaussian_nll",
        "hinge",
        "huber",
        "kl_divergence",
        "log_cosh",
        "loss",
        "nt_xent",
        "poisson_nll",
        "quantile",
        "softmax_cross_entropy",
        "softmax_focal",
        "squared_error",
        "triplet",
        "triplet_semi_hard",
        "tversky",
    }
)


def direction(name: str) -> Literal["min", "max"] | None:
    """Whether a smaller or a larger value of the metric or loss of this name is better; None for any other name.

    >>> direction("accuracy"), direction("squared_error"), direction("score")
    ('max', 'min', None)
    """
    return "max" if name in LARGER else "min" if name in SMALLER else None
