"""Three real series, with the settings of their forecasts, and exponential smoothing by statsmodels."""

import warnings
from typing import NamedTuple

import numpy as np

import jaxnn as nn


class Series(NamedTuple):
    """A series and its rolling origins."""

    title: str
    season: int  # steps of a season, which the naive forecast repeats
    horizon: int  # steps to forecast
    window: int  # steps that the network and the linear model see: three seasons
    first: int  # the first origin: everything before is for training
    step: int  # from one origin to the next; 5 months visit all seasons
    renewed: int  # steps after which both models are trained anew, on all that is known by then
    trend: str | None  # of exponential smoothing: that with the smaller error before the first origin


SERIES = {
    "elnino": Series("sea off Peru, °C, months", 12, 12, 36, 360, 5, 60, None),
    "co2": Series("CO2 over Mauna Loa, ppm, months", 12, 24, 36, 240, 5, 60, "add"),
    "sunspots": Series("root of sunspots, years", 11, 11, 33, 150, 2, 22, None),
}


def values(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The years of the steps, and the values, in float64."""
    years, y = (part.astype(np.float64) for part in nn.data.load(name).train)
    if name == "co2":  # weeks, some of them missing -> months
        known = np.isfinite(y)
        month = np.floor(12 * years + 0.01).astype(int)
        y = np.bincount(month - month[0], np.interp(years, years[known], y[known])) / np.bincount(month - month[0])
        years = (month[0] + np.arange(len(y))) / 12
    return years, np.sqrt(y) if name == "sunspots" else y  # the spread of the numbers of spots grows with their mean


def smoothing(y: np.ndarray, of: Series, origins: np.ndarray) -> np.ndarray | None:
    """Holt-Winters forecasts [origins, horizon], fitted anew at each origin; None without statsmodels."""
    try:
        from statsmodels.tsa.holtwinters import ExponentialSmoothing
    except ImportError:
        return None
    how = {"trend": of.trend, "seasonal": "add", "seasonal_periods": of.season}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence
        return np.stack([ExponentialSmoothing(y[:o], **how).fit().forecast(of.horizon) for o in origins])
