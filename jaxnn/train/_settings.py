"""Known settings of a run: saved with its checkpoints, and compared when it is resumed."""

from __future__ import annotations

import inspect
import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn._calls import call_of
from jaxnn._errors import InvalidValue, describe, invalid, is_layer, wrong_type
from jaxnn._mesh import is_spread
from jaxnn.io._safetensors import parse_json
from jaxnn.train._feed import batches_of, is_feed
from jaxnn.train._plan import Plan
from jaxnn.types import Arrays, Batch, Data

Settings = dict[str, Any]

FIRST = 64  # number of examples in a checksum
GATHERED = 2**26  # largest array, in bytes, that is gathered from several devices for a checksum
TEXT = 1000  # characters of an argument that are saved
LONGEST = 80  # characters of a value in an error
# The checksums, and the settings with the number of examples in them if that is less than FIRST.
SIZES = {"first_batch": "batch_size", "first_examples": "examples", "first_valid_examples": "valid_examples"}
OTHER = "another"  # an optimizer or similar object whose call is unknown


class Kept:
    """The settings of the current run, and their comparison with those of a file.

    Attributes:
      settings: name -> value; parts have names such as `optimizer/learning_rate`. Unknown settings are omitted.
    """

    def __init__(self, settings: Settings, changed: str | Sequence[str], train: Data):
        self.settings, self.changed, self.train = settings, _names(changed), train
        self.known = set(settings)

    def text(self) -> str:
        """The settings as JSON."""
        return json.dumps(self.settings, separators=(",", ":"))

    def differing(self, saved: Settings) -> list[str]:
        """Names of settings that differ and are not in `changed`; settings known on one side only are not compared."""
        now = self.settings
        names = [name for name in now if name in saved and not _equal(saved[name], now[name])]
        names = [name for name in names if not any(_covers(c, name) for c in self.changed)]
        names = [name for name in names if _is_comparable(name, saved, now)]
        if is_feed(self.train) and not {"first_batch", "batch_size"}.isdisjoint(names):
            again = now | _of_batch(next(iter(batches_of("train", self.train, 0))))
            names = [name for name in names if _equal(again[name], now[name])]  # a shuffling loader is not compared
        return names

    def differences(self, saved: Settings) -> list[str]:
        """Settings that differ and may not, as text such as `mode max (there min)`."""
        return [_difference(name, saved[name], self.settings[name]) for name in self.differing(saved)]

    def check(self, saved: Settings, path: str) -> None:
        """Raises if settings of a file differ and may not; otherwise adopts its checksums and sizes if unknown here."""
        self.known |= set(saved)
        if names := self.differing(saved):
            upper = [n for n in names if not any(n != other and _covers(other, n) for other in names)]
            fix = f"Pass those, or another folder; changed={upper!r} resumes with the new ones."
            raise invalid("drive", f"the settings of {path}", told=", ".join(self.differences(saved)), fix=fix)
        for name in (*SIZES, *SIZES.values()):  # of a feed that begins later they are not known here
            if name in saved and name not in self.changed:
                self.settings.setdefault(name, saved[name])

    def check_changed(self) -> None:
        """Raises for a name in `changed` that is neither a setting, here or in the file, nor the prefix of one."""
        for name in self.changed:
            if not any(_covers(name, known) for known in self.known):
                below = sorted(known for known in self.known if known.endswith(f"/{name}"))
                top = sorted(known for known in self.known if "/" not in known)
                fix = f"Is it {' or '.join(below)}?" if below else ""
                raise invalid("drive", f"changed to name settings, such as {', '.join(top)}", name, fix)


def settings_of(plan: Plan, train: Data, valid: Data, first: Any) -> Settings:
    """The known settings of a run. `epochs` is not included: a run may be prolonged.

    Args:
      plan: the plan of the run.
      train, valid: as in `drive`.
      first: the first batch of a feed; None if unknown.
    """
    found: Settings = {name: getattr(plan, name) for name in ("monitor", "mode", "patience", "batch_size")}
    if is_feed(train):
        del found["batch_size"]
        found |= {} if first is None or isinstance(train, Iterator) else _of_batch(first)
    else:
        found |= _examples("examples", train) | _checksum("first_examples", train)
    if valid is not None and not is_feed(valid):
        found |= _examples("valid_examples", valid) | _checksum("first_valid_examples", valid)
    found |= _told("augment", plan.augment)
    call = call_of(plan.trainer)
    return found if call is None else found | _arguments("", call)


def decoded(text: str, where: str) -> Settings:
    """The settings in the text of a file."""

    def bad(got: str) -> InvalidValue:
        return invalid(where, "settings as `drive` writes them", told=f"a text {got}", fix="It is damaged.")

    return parse_json(text.encode(errors="replace"), bad)


def _is_comparable(name: str, saved: Settings, now: Settings) -> bool:
    """True unless the setting is a checksum of different numbers of examples, which cannot be compared."""
    sizes = [known.get(SIZES.get(name, name)) for known in (saved, now)]
    few = any(type(size) is not int or size < FIRST for size in sizes)
    return name not in SIZES or sizes[0] == sizes[1] or not few


def _difference(name: str, there: Any, here: Any) -> str:
    there, here = _apart(there, here)
    return f"{name} {here} (there {there})"


def _names(changed: Any) -> tuple[str, ...]:
    names = (changed,) if isinstance(changed, str) else changed
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise wrong_type("drive", "changed to be the name of a setting or several", changed)
    return tuple(names)


def _covers(name: str, setting: str) -> bool:
    """True if `setting` is `name` or below it."""
    return setting == name or setting.startswith(f"{name}/")


def _equal(a: Arrays, b: Arrays) -> bool:
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (a, b))
    return a == b if numbers else type(a) is type(b) and a == b


def _apart(a: Arrays, b: Arrays) -> tuple[str, str]:
    """Two values as text; for two models their first lines that differ."""
    if isinstance(a, str) and isinstance(b, str):
        lines = zip([*a.splitlines(), ""], [*b.splitlines(), ""], strict=False)
        a, b = next(((x.strip(), y.strip()) for x, y in lines if x != y), (a, b))
    a, b = (x or "none" if isinstance(x, str) else "none" if x is None else json.dumps(x) for x in (a, b))
    return _short(a), _short(b)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _of_batch(batch: Batch) -> Settings:
    return _examples("batch_size", batch) | _checksum("first_batch", batch)


def _examples(name: str, data: Data) -> Settings:
    return {name: np.shape(jax.tree.leaves(data)[0])[0]}


def _checksum(name: str, data: Data) -> Settings:
    """A checksum of the first examples; none for arrays that are too large to gather from several devices."""
    total = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(data):
        if is_spread(leaf) and (leaf.nbytes > GATHERED or not leaf.is_fully_addressable):
            return {}
        rows = np.asarray(jnp.asarray((np.asarray(leaf) if is_spread(leaf) else leaf)[:FIRST]))  # in training dtypes
        total = zlib.crc32(f"{jax.tree_util.keystr(path)} {rows.dtype} {rows.shape}".encode(), total)
        total = zlib.crc32(np.ascontiguousarray(rows).reshape(-1).view(np.uint8), total)
    return {name: f"checksum {total:08x}"}


def _arguments(prefix: str, call: Any) -> Settings:
    """The arguments of a call, including defaults."""
    parameters = inspect.signature(call.function).parameters
    names = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty]
    defaults = {p.name: p.default for p in parameters.values() if p.default is not p.empty}
    found: Settings = {}
    for name, value in {**dict(zip(names, call.args, strict=False)), **defaults, **call.kwargs}.items():
        found |= _told(prefix + name, value)
    return found


def _told(name: str, value: Any) -> Settings:
    """Known settings of an argument: numbers and names, the call of an optimizer and its arguments, a model as text."""
    call = call_of(value) if isinstance(value, tuple) else None
    if is_layer(value):
        return {name: _steady(str(value))}
    if call is not None:
        return {name: call.function.__name__} | _arguments(f"{name}/", call)
    if hasattr(value, "init") and hasattr(value, "update"):
        return {name: OTHER}
    if isinstance(value, Mapping):
        parts: Sequence[tuple[Any, Any]] = list(value.items())
    elif type(value) in (list, tuple) and all(isinstance(part, str) for part in value):
        return {name: ", ".join(value)}  # one pattern and a list of one are equal
    elif type(value) in (list, tuple):
        parts = list(enumerate(value))
    else:
        return {name: _leaf(value)}
    found: Settings = {name: f"{len(parts)} entries"}
    for key, part in parts:
        found |= _told(f"{name}/{key}", part)
    return found


def _leaf(value: Any) -> Any:
    """An argument as a JSON value."""
    array = isinstance(value, jax.Array | np.ndarray | np.generic) and not isinstance(value, jax.core.Tracer)
    if array and value.ndim == 0 and jnp.issubdtype(value.dtype, np.floating):
        value = float(str(np.asarray(value)))  # float32(0.1) is 0.1
    elif array and value.ndim == 0 and jnp.issubdtype(value.dtype, np.integer):
        value = int(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    return _steady(getattr(value, "__name__", None) or describe(value))[:TEXT]


def _steady(text: str) -> str:
    """A text without memory addresses, which differ between processes."""
    return re.sub(r" at 0x[0-9a-f]+", "", text)
