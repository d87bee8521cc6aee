"""Direction in which each metric or loss improves."""

from jaxnn import losses

_DIRECTIONS: dict[str, str | None] = {
    "accuracy": "max",
    "binary_accuracy": "max",
    "calibration_temperature": None,
    "confusion_matrix": None,
    "expected_calibration_error": "min",
    "f1": "max",
    "frechet_distance": "min",
    "iou": "max",
    "mean_average_precision": "max",
    "pr_auc": "max",
    "precision": "max",
    "r2": "max",
    "recall": "max",
    "recall_at_k": "max",
    "retrieval_average_precision": "max",
    "roc_auc": "max",
    "top_k_accuracy": "max",
    "loss": "min",
    **dict.fromkeys(losses.__all__, "min"),
}


def direction(name: str) -> str | None:
    """ "max" or "min", the direction in which a public metric or loss improves; None for an unknown name.

    >>> direction("accuracy"), direction("loss"), direction("my_metric")
    ('max', 'min', None)
    """
    return _DIRECTIONS.get(name)
