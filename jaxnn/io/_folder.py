"""Folders of checkpoints: numbered files, of which the last few are kept, and a file of the best."""

import contextlib
import os
import re
import shutil

from jaxnn._errors import invalid, wrong_type
from jaxnn.io._orbax import listed, tree_file
from jaxnn.io._safetensors import Tensor, read_header

BEST = "best.safetensors"
_NUMBERED = re.compile(r"epoch-(\d{6,})\.safetensors")

Folder = str | os.PathLike[str]


def make_folder(where: str, folder: Folder) -> None:
    """Creates a folder if it is missing; raises for anything else under its path."""
    if not isinstance(folder, str | os.PathLike):
        raise wrong_type(where, "checkpoint to be a path (str or os.PathLike)", folder)
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise invalid(where, "checkpoint to be a folder", told=f"the file {os.fspath(folder)}")
    os.makedirs(folder, exist_ok=True)


def numbered(folder: Folder) -> dict[int, str]:
    """Epoch -> path of the file written after it, in order of the epochs."""
    found = {int(m[1]): os.path.join(folder, m[0]) for m in map(_NUMBERED.fullmatch, os.listdir(folder)) if m}
    return dict(sorted(found.items()))


def path_of(folder: Folder, epoch: int) -> str:
    """Path of the file written after an epoch."""
    return os.path.join(folder, f"epoch-{epoch:06d}.safetensors")


def described(path: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The arrays of a file by name, not read yet, and its metadata."""
    where = f"load {path}"
    with open(tree_file(path, where), "rb") as file:
        tensors, metadata = read_header(file, where)
    return tensors | listed(metadata, tensors, where)[1], metadata


def remove(path: str) -> None:
    """Removes a file that `save` wrote, if it is still there."""
    if os.path.isdir(path):  # `save` writes a folder if arrays are sharded over processes
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError):  # another process of this run may have removed it
            os.unlink(path)
