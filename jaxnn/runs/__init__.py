"""Many training runs: sweeps and their points, successive halving, ensembles, cross-validation."""

from jaxnn.runs import points
from jaxnn.runs._cross_validate import CrossValidation, cross_validate
from jaxnn.runs._ensemble import Consensus, ensemble
from jaxnn.runs._halving import halving
from jaxnn.runs._leaderboard import Leaderboard, Member
from jaxnn.runs._sweep import Sweep, sweep

__all__ = [
    "Consensus",
    "CrossValidation",
    "Leaderboard",
    "Member",
    "Sweep",
    "cross_validate",
    "ensemble",
    "halving",
    "points",
    "sweep",
]
