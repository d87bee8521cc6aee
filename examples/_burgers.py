"""Burgers' equation from -sin(πx): its exact solution on a grid, and central differences."""

import time

import numpy as np
from scipy.integrate import solve_ivp

VISCOSITY = 0.01 / np.pi  # that of the paper: at x = 0 a front steepens to a width of 0.006
GRID = np.meshgrid(np.linspace(0.01, 1, 100), np.linspace(-1, 1, 257), indexing="ij")  # t, x of the errors


def exact(t: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Solution from -sin(πx), by the Cole-Hopf transform: a quotient of integrals over a Gauss-Hermite rule."""
    nodes, weights = np.polynomial.hermite.hermgauss(200)  # 300 nodes give the same 14 digits
    y = np.pi * (x[..., None] - 2 * np.sqrt(VISCOSITY * t)[..., None] * nodes)
    weights = weights * np.exp(-(1 + np.cos(y)) / (2 * np.pi * VISCOSITY))
    return -(np.sin(y) * weights).sum(-1) / weights.sum(-1)


TRUE = exact(*GRID)


def differences(cells: int) -> tuple[float, float]:
    """Relative error of central differences with SciPy's LSODA, and its seconds of a processor."""
    x, start = np.linspace(-1, 1, cells + 1), time.process_time()

    def rate(_: float, u: np.ndarray) -> np.ndarray:
        u, h = np.pad(u, 1), 2 / cells
        return (u[:-2] ** 2 - u[2:] ** 2) / (4 * h) + VISCOSITY * (u[2:] - 2 * u[1:-1] + u[:-2]) / h**2

    settings = {"t_eval": GRID[0][:, 0], "rtol": 1e-6, "atol": 1e-8, "lband": 1, "uband": 1}
    u = solve_ivp(rate, (0, 1), -np.sin(np.pi * x[1:-1]), "LSODA", **settings).y.T
    seconds, true = time.process_time() - start, exact(*np.meshgrid(GRID[0][:, 0], x[1:-1], indexing="ij"))
    return float(np.linalg.norm(u - true) / np.linalg.norm(true)), seconds
