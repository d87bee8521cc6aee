"""Training runs: trainer, fit, drive, prediction, sweeps, ensembles, and saving and loading."""

from jaxnn.train import points
from jaxnn.train.checkpoint import load, save
from jaxnn.train.cross_validate import CrossValidation, cross_validate
from jaxnn.train.drive import drive
from jaxnn.train.ensemble import Consensus, ensemble
from jaxnn.train.fit import Best, Run, fit
from jaxnn.train.halving import halving
from jaxnn.train.leaderboard import Leaderboard, Member
from jaxnn.train.predict import predict
from jaxnn.train.recalibrate import recalibrate
from jaxnn.train.sweep import Sweep, sweep
from jaxnn.train.trainer import Trainer, TrainState, objective_trainer, trainer

__all__ = [
    "Best",
    "Consensus",
    "CrossValidation",
    "Leaderboard",
    "Member",
    "Run",
    "Sweep",
    "TrainState",
    "Trainer",
    "cross_validate",
    "drive",
    "ensemble",
    "fit",
    "halving",
    "load",
    "objective_trainer",
    "points",
    "predict",
    "recalibrate",
    "save",
    "sweep",
    "trainer",
]
