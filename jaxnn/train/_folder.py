"""Checkpoint folder of `drive`: runs are written during training, and the newest intact one is found again.

    epoch-000012.safetensors    the complete `Run` after 12 epochs; the last few such files are kept
    best.safetensors            its `Best`, params and state

`best` is written before the run to which it belongs: if a process is killed at any point, the newest run has its best
next to it.
"""

import os
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from jaxnn._errors import invalid
from jaxnn.io._checkpoint import Differs, load, save_with
from jaxnn.io._files import remove_abandoned
from jaxnn.io._folder import BEST, Folder, described, make_folder, numbered, path_of, remove
from jaxnn.io._safetensors import Tensor
from jaxnn.train._fit import Run, prolonged, shortened
from jaxnn.train._settings import Kept, Settings, decoded

SETTINGS = "settings"  # key of the settings in the metadata of a file


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
    make_folder("drive", folder)
    files = numbered(folder)
    kept, found = kept or Kept({}, (), None), None
    for epoch in reversed(files):
        found = _read(files[epoch], epoch, begun, expected, kept)
        if found is not None:
            break
    if found is None and files:
        fix = "Remove them to start again, or pass another folder."
        raise invalid(
            "drive", "checkpoint to hold an intact run", told=f"{os.fspath(folder)}, whose runs are damaged", fix=fix
        )
    kept.check_changed()
    at_best = os.path.join(folder, BEST)
    best = _read(at_best, None, begun) if os.path.lexists(at_best) else None
    if jax.process_count() == 1:  # with several hosts, not every file system shows which files are in use
        remove_abandoned(folder)
    if found is None or epochs_done(found) < epochs_done(begun):
        found = begun
    elif best is None:
        save_with(at_best, found.best, {})
    if jax.process_count() > 1:  # no process writes before all have read
        multihost_utils.sync_global_devices(f"drive {os.fspath(folder)}")
    return found


def record(folder: Folder, run: Run, keep: int, kept: Kept | None = None) -> None:
    """Writes a run into its folder, after its `best` if that is new, and removes all but the last `keep` runs.

    Runs of later epochs, which `newest` skipped, are not removed.
    """
    epoch = epochs_done(run)
    earlier = [number for number in numbered(folder) if number < epoch]
    if np.any(np.asarray(run.epoch - run.wait) > max(earlier, default=0)) or not earlier:
        save_with(os.path.join(folder, BEST), run.best, {})
    metadata = {} if kept is None else {SETTINGS: kept.text()}
    save_with(path_of(folder, epoch), run, metadata)
    for path in [path for number, path in numbered(folder).items() if number <= epoch][:-keep]:
        remove(path)


def epochs_done(run: Run) -> int:
    """Number of epochs done; for a batch of runs the maximum."""
    return int(jnp.max(run.epoch))


def _read(
    path: str, epoch: int | None, begun: Run, expected: Callable[[int], Run] | None = None, kept: Kept | None = None
) -> Any:
    """The run in a file, or, without `expected`, its best; None with a warning for a damaged file or a wrong name."""
    saved: Settings = {}
    try:
        tensors, metadata = described(path)
        saved = decoded(metadata[SETTINGS], f"load {path}") if SETTINGS in metadata else {}
        found = load(path, like=begun.best if expected is None else _like(tensors, begun, expected))
        if expected is not None and epochs_done(found) != epoch:
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
