"""Training runs: the trainer, the run, prediction, and what is kept of them."""

from jaxnn.train.checkpoint import load, save
from jaxnn.train.drive import drive
from jaxnn.train.fit import Best, Run, fit
from jaxnn.train.predict import predict
from jaxnn.train.recalibrate import recalibrate
from jaxnn.train.trainer import Trainer, TrainState, objective_trainer, trainer

__all__ = [
    "Best",
    "Run",
    "TrainState",
    "Trainer",
    "drive",
    "fit",
    "load",
    "objective_trainer",
    "predict",
    "recalibrate",
    "save",
    "trainer",
]
