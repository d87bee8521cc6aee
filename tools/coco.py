"""Average precisions of random boxes by pycocotools, written with the boxes to tests/metrics/coco.json.

    python tools/coco.py        with pycocotools 2.0.10 installed; the tests do not need it

Detections are true boxes with noise of random size, some twice, some in another class, and boxes anywhere.
"""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

IMAGES, CLASSES, SIDE = 12, 3, 100
TOTALS = (19, 23, 27)  # true boxes of each class; no factor 2 or 5: pycocotools rounds recalls such as 3/10
FOUND, FALSE = 0.85, 25  # fraction of the true boxes with detections, and detections anywhere


def boxes(random: np.random.Generator, n: int) -> np.ndarray:
    """Random boxes x, y, width, height, [n, 4]."""
    size = random.uniform(8, 40, (n, 2))
    return np.concatenate([random.uniform(0, SIDE - size), size], 1)


def scene(random: np.random.Generator) -> tuple[list, list]:
    """Detections (image, class, score, box) and true boxes (image, class, box); the first image has no true boxes."""
    classes = np.repeat(np.arange(CLASSES), TOTALS)
    true = list(zip(random.integers(1, IMAGES, len(classes)), classes, boxes(random, len(classes)), strict=True))
    places = []
    for image, kind, box in true:
        for _ in range(random.integers(1, 3) if random.uniform() < FOUND else 0):  # one found twice is once wrong
            kind = kind if random.uniform() < 0.9 else random.integers(CLASSES)
            places.append((image, kind, box + random.normal(0, random.exponential(0.05), 4) * box[[2, 3, 2, 3]]))
    anywhere = random.integers(0, IMAGES - 1, FALSE), random.integers(0, CLASSES, FALSE), boxes(random, FALSE)
    places += list(zip(*anywhere, strict=True))
    scores = random.permutation(len(places)) / len(places)  # all different: the order of equal ones is not defined
    return [(*place[:2], score, place[2]) for place, score in zip(places, scores, strict=True)], true


def evaluated(found: list, true: list) -> COCOeval:
    """The evaluation of pycocotools, of boxes of all sizes."""
    images = [{"id": i + 1} for i in range(IMAGES)]
    categories = [{"id": k + 1} for k in range(CLASSES)]
    annotations = [
        {"id": n, "image_id": i + 1, "category_id": k + 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for n, (i, k, box) in enumerate(true, 1)
    ]
    truth = COCO()
    truth.dataset = {"info": {}, "images": images, "categories": categories, "annotations": annotations}
    truth.createIndex()
    results = truth.loadRes(
        [{"image_id": i + 1, "category_id": k + 1, "score": s, "bbox": box} for i, k, s, box in found]
    )
    evaluation = COCOeval(truth, results, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def main() -> None:
    """Evaluates one scene and writes it with the results."""
    found, true = scene(np.random.default_rng(0))
    found = [(int(i), int(k), round(float(s), 4), [round(float(b), 2) for b in box]) for i, k, s, box in found]
    true = [(int(i), int(k), [round(float(b), 2) for b in box]) for i, k, box in true]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = evaluated(found, true)
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # [thresholds, recalls, classes], all areas, 100 boxes
    results = {
        "mean": evaluation.stats[0],
        "at 0.5": evaluation.stats[1],
        "at 0.75": evaluation.stats[2],
        "table": precision.mean(1).tolist(),
    }
    path = Path(__file__).parents[1] / "tests" / "metrics" / "coco.json"
    path.write_text(json.dumps({"images": IMAGES, "detections": found, "true": true, "results": results}) + "\n")
    print(path, {name: value for name, value in results.items() if name != "table"})


if __name__ == "__main__":
    main()
