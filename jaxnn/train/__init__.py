"""One training run: trainer, fit, drive, predict, generate."""

from jaxnn.train._drive import drive
from jaxnn.train._fit import Best, Run, fit
from jaxnn.train._generate import generate
from jaxnn.train._loss_scale import LossScale
from jaxnn.train._predict import predict
from jaxnn.train._recalibrate import recalibrate
from jaxnn.train._trainer import Trainer, TrainState, objective_trainer, trainer

__all__ = [
    "Best",
    "LossScale",
    "Run",
    "TrainState",
    "Trainer",
    "drive",
    "fit",
    "generate",
    "objective_trainer",
    "predict",
    "recalibrate",
    "trainer",
]
