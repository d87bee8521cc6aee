"""Checks of modules of other libraries, and the arguments that their calls take."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

import jax

from jaxnn._errors import invalid, wrong_type

# Arguments of a module's call that are True in training, and those that are True in evaluation.
TRAINING = ("train", "training", "is_training")
EVALUATION = ("deterministic", "use_running_average", "inference", "eval")


def imported(where: str, module: str, package: str) -> Any:
    """A module of an optional package; raises ValueError that names the package if it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        fix = 'Run `pip install "jaxnn[interop]"`.'
        raise invalid(where, f"{package}, to which the module belongs", told="none", fix=fix) from error


def arguments_of(module: Any) -> list[str]:
    """Names of the arguments of a module's call."""
    return list(inspect.signature(type(module).__call__).parameters)[1:]


def name_of(module: Any) -> str:
    """The name of a module's class, as the name of a layer."""
    return re.sub(r"[^A-Za-z0-9_]", "", type(module).__name__) or "module"


def check_module(where: str, module: Any, kind: type, expected: str) -> None:
    """Raises TypeError unless `module` is an instance of the class."""
    if not isinstance(module, kind):
        fix = f"Call it: {module.__name__}(...)." if inspect.isclass(module) and issubclass(module, kind) else ""
        raise wrong_type(where, expected, module, fix)


def check_flag(where: str, flag: str | None, module: Any, known: Sequence[str]) -> str | None:
    """The argument by which a module's call distinguishes training, if any; raises for one that it does not have."""
    have = arguments_of(module)
    if flag is None:
        return next((name for name in known if name in have), None)
    if not isinstance(flag, str):
        raise wrong_type(where, "flag to be a name or None", flag)
    if flag not in have:
        raise invalid(where, f"flag to be an argument of the module's call, {', '.join(have)}", flag)
    if flag not in known:
        raise invalid(where, f"flag to be one of {', '.join(map(repr, known))}", flag)
    return flag


def check_names(where: str, argument: str, names: Any) -> tuple[str, ...]:
    """Names as a tuple; raises TypeError for anything but a sequence of str."""
    if not (isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)):
        raise wrong_type(where, f"{argument} to be a sequence of names", names, "Pass a tuple of str.")
    return tuple(names)


@contextlib.contextmanager
def plain_promotion() -> Iterator[None]:
    """JAX's default promotion of dtypes and ranks, which modules of other libraries rely on."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
