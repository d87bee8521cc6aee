"""Files that take the place of others, whole or not at all, and the temporary files of writers that were killed.

A writer holds a lock on its temporary file until that has the final name. The lock ends with its process: a temporary
file that can be locked belongs to nobody.
"""

import contextlib
import errno
import os
import re
import uuid
from collections.abc import Iterator
from typing import Any, BinaryIO

from jaxnn._errors import invalid

try:
    import fcntl
except ImportError:  # Windows, which removes no file that is open
    fcntl = None  # type: ignore[assignment]

TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")  # the name of a file that is being written


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` at the end, or leaves no trace if anything fails before.

    Raises ValueError for a path that is no file's; an OSError, as of a full disk, has the path as its `filename`.
    """
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise invalid("save", "an existing folder", told=folder, fix="Create it by os.makedirs(folder, exist_ok=True).")
    if os.path.exists(target) and not os.path.isfile(target):
        raise invalid("save", "the path of a file", told=f"{target}, which is none", fix="Add a file name.")
    with naming(target):
        temporary, file = _begun(folder)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if fcntl is None:
                    file.close()  # Windows renames no file that is open
                os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        if os.name != "nt":  # the new name is on disk only after its folder is synced; Windows has no such call
            _sync(folder)


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Gives every OSError the path that the user knows: that of a full disk has none."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise OSError(f"{path}: {error}") from error
        raise OSError(error.errno, error.strerror, path) from error


def remove_abandoned(folder: str | os.PathLike[str]) -> None:
    """Removes the temporary files in a folder that no process is writing any more."""
    for name in os.listdir(folder):
        if TEMPORARY.fullmatch(name):
            with contextlib.suppress(OSError):  # locked, gone, read-only, or on a file system without locks
                _remove_unlocked(os.path.join(folder, name))


@contextlib.contextmanager
def alone(folder: str) -> Iterator[None]:
    """Waits until no other thread or process is in this block with the same folder."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _begun(folder: str) -> tuple[str, Any]:
    """A new temporary file, which nobody else removes while it is open."""
    while True:
        temporary = os.path.join(folder, f".{uuid.uuid4().hex}.tmp")
        file = open(temporary, "xb")  # noqa: SIM115
        _lock(file.fileno())
        if os.fstat(file.fileno()).st_nlink:
            return temporary, file
        file.close()  # it was removed before it was locked


def _lock(descriptor: int) -> None:
    """Locks a file for this process, if its file system has locks."""
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF):
                raise


def _remove_unlocked(path: str) -> None:
    if fcntl is None:
        os.unlink(path)
        return
    with open(path, "r+b") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems refuse folders
            raise
    finally:
        os.close(descriptor)
