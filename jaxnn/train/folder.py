"""Checkpoint folder of `drive`: runs are written during training, and the newest intact one is found again.

    epoch-000012.safetensors    the complete `Run` after 12 epochs; the last few such files are kept
    best.safetensors            its `Best`, params and state

`best` is written before the run to which it belongs: if a process is killed at any point, the newest run has its best
next to it.
"""

import contextlib
import os
import re
import shutil
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from jaxnn._errors import invalid, wrong_type
from jaxnn.train._files import remove_abandoned
from jaxnn.train._orbax import listed, tree_file
from jaxnn.train._safetensors import Tensor, read_header
from jaxnn.train.checkpoint import Differs, load, save_with
from jaxnn.train.fit import Run, prolonged, shortened
from jaxnn.train.settings import Kept, Settings, decoded

SETTINGS = "settings"  # key of the settings in the metadata of a file
BEST = "best.safetensors"
_RUN = re.compile(r"epoch-(\d{6,})\.safetensors")

Folder = str | os.PathLike[str]


def newest(folder: Folder, begun: Run, expected: Callable[[int], Run], kept: Kept | None = None) -> Run:
    """The newest intact run of a folder, created if missing; `begun` if that has more epochs or there is none.

    A damaged file, or a file that holds another epoch than its name, is skipped with a warning.

    Args:
      folder: path of the folder.
      begun: the run at hand.
      expected: shapes of a run with a given number of steps per epoch; for a feed that number is unknown at the start.
      kept: the settings to compare; None compares none.

    Raises:
      ValueError: if the folder holds a run with other paths, shapes, dtypes, settings or another key than `begun`, or
        has runs, none of which is intact. The folder is then unchanged.
    """
    if not isinstance(folder, str | os.PathLike):
        raise wrong_type("drive", "checkpoint to be a path (str or os.PathLike)", folder)
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise invalid("drive", "checkpoint to be a folder", told=f"the file {os.fspath(folder)}")
    os.makedirs(folder, exist_ok=True)
    names = sorted(_runs(folder), key=_epoch, reverse=True)
    kept, found = kept or Kept({}, (), None), None
    for name in names:
        found = _read(folder, name, begun, expected, kept)
        if found is not None:
            break
    if found is None and names:
        fix = "Remove them to start again, or pass another folder."
        raise invalid(
            "drive", "checkpoint to hold an intact run", told=f"{os.fspath(folder)}, whose runs are damaged", fix=fix
        )
    kept.check_changed()
    best = _read(folder, BEST, begun) if os.path.lexists(os.path.join(folder, BEST)) else None
    if jax.process_count() == 1:  # with several hosts, not every file system shows which files are in use
        remove_abandoned(folder)
    if found is None or epochs_done(found) < epochs_done(begun):
        found = begun
    elif best is None:
        save_with(os.path.join(folder, BEST), found.best, {})
    if jax.process_count() > 1:  # no process writes before all have read
        multihost_utils.sync_global_devices(f"drive {os.fspath(folder)}")
    return found


def record(folder: Folder, run: Run, keep: int, kept: Kept | None = None) -> None:
    """Writes a run into its folder, after its `best` if that is new, and removes all but the last `keep` runs.

    Runs of later epochs, which `newest` skipped, are not removed.
    """
    epoch = epochs_done(run)
    earlier = [_epoch(name) for name in _runs(folder) if _epoch(name) < epoch]
    if np.any(np.asarray(run.epoch - run.wait) > max(earlier, default=0)) or not earlier:
        save_with(os.path.join(folder, BEST), run.best, {})
    metadata = {} if kept is None else {SETTINGS: kept.text()}
    save_with(os.path.join(folder, f"epoch-{epoch:06d}.safetensors"), run, metadata)
    for name in sorted((n for n in _runs(folder) if _epoch(n) <= epoch), key=_epoch)[:-keep]:
        _remove(os.path.join(folder, name))


def epochs_done(run: Run) -> int:
    """Number of epochs done; for a batch of runs the maximum."""
    return int(jnp.max(run.epoch))


def _read(
    folder: Folder, name: str, begun: Run, expected: Callable[[int], Run] | None = None, kept: Kept | None = None
) -> Any:
    """The run in a file, or, without `expected`, its best; None with a warning for a damaged file or a wrong name."""
    path = os.path.join(folder, name)
    saved: Settings = {}
    try:
        tensors, saved = _described(path)
        found = load(path, like=begun.best if expected is None else _like(tensors, begun, expected))
        if expected is not None and epochs_done(found) != _epoch(name):
            raise invalid(f"load {path}", "the epochs of its name", told=f"a run of {epochs_done(found)} epochs")
    except Differs as error:
        fix = "Pass another folder, or the arguments of that run."
        wanted = "checkpoint to have the leaves of a run of the same key shape, trainer, data, epochs and batch_size"
        got = [error.differences] if kept is None else [*kept.differences(saved), error.differences]
        raise invalid("drive", wanted, told=f"{'; '.join(got)} in {path}", fix=fix) from error
    except (ValueError, OSError) as error:
        warnings.warn(f"drive: {path} is passed over. {error}", stacklevel=4)
        return None
    if expected is not None and not np.array_equal(found.ts.key, begun.ts.key):
        fix = "Pass another folder, or the key of that run."
        raise invalid(
            "drive", "checkpoint to hold the run of this key", told=f"{path}, which began from another", fix=fix
        )
    if kept is not None:
        kept.check(saved, path)
    return found if expected is None else prolonged(found, next(iter(begun.history["train"].values())).shape[-2])


def _like(tensors: dict[str, Tensor], begun: Run, expected: Callable[[int], Run]) -> Run:
    """The `like` argument to load a run: `begun`, with its shardings, or shapes with another number of steps per epoch.

    A file with fewer epochs is loaded with its shapes and prolonged later. If the file has no such history the number
    of steps is 0, and `load` raises an error that names the difference.
    """
    stored = tensors.get(f"history/train/{next(iter(begun.history['train']))}")
    epochs, steps = stored.shape[-2:] if stored is not None and len(stored.shape) > 1 else (0, 0)
    known = next(iter(begun.history["train"].values())).shape
    like = begun if steps == known[-1] else expected(steps)
    return shortened(like, epochs) if 0 < epochs < known[-2] else like


def _described(path: str) -> tuple[dict[str, Tensor], Settings]:
    """The arrays of a file by name, not read yet, and its settings."""
    where = f"load {path}"
    with open(tree_file(path, where), "rb") as file:
        tensors, metadata = read_header(file, where)
    settings = decoded(metadata[SETTINGS], where) if SETTINGS in metadata else {}
    return tensors | listed(metadata, tensors, where)[1], settings


def _runs(folder: Folder) -> list[str]:
    return [name for name in os.listdir(folder) if _RUN.fullmatch(name)]


def _epoch(name: str) -> int:
    return int(name.removeprefix("epoch-").removesuffix(".safetensors"))


def _remove(path: str) -> None:
    if os.path.isdir(path):  # `save` writes a folder if arrays are sharded over processes
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError):  # another process of this run may have removed it
            os.unlink(path)
