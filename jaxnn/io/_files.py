"""Atomic file replacement, and removal of temporary files left by killed processes.

A writer holds a lock on its temporary file until the file is renamed to its final name. The operating system releases
the lock when the process ends: a temporary file that can be locked is abandoned.
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
except ImportError:  # Windows, which does not remove open files
    fcntl = None  # type: ignore[assignment]

TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")  # the name of a file that is being written


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], where: str = "save") -> Iterator[BinaryIO]:
    """Context manager: a new file that replaces `path` on success, and leaves no trace on failure.

    Args:
      path: path of the file.
      where: name of the function, for errors.

    Raises:
      ValueError: if the folder does not exist, or `path` is not a regular file.
      OSError: for example for a full disk; its `filename` is `path`.
    """
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise invalid(where, "an existing folder", told=folder, fix="Create it by os.makedirs(folder, exist_ok=True).")
    if os.path.exists(target) and not os.path.isfile(target):
        raise invalid(where, "the path of a file", told=f"{target}, which is none", fix="Add a file name.")
    with naming(target):
        temporary, file = _begun(folder)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if fcntl is None:
                    file.close()  # Windows cannot rename an open file
                os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        if os.name != "nt":  # the new name is on disk only after its folder is synced; Windows has no such call
            _sync(folder)


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Context manager that sets the path on every OSError: that of a full disk has none."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise OSError(f"{path}: {error}") from error
        raise OSError(error.errno, error.strerror, path) from error


def remove_abandoned(folder: str | os.PathLike[str]) -> None:
    """Removes the temporary files in a folder that no process is writing any longer."""
    for name in os.listdir(folder):
        if TEMPORARY.fullmatch(name):
            with contextlib.suppress(OSError):  # locked, gone, read-only, or on a file system without locks
                _remove_unlocked(os.path.join(folder, name))


@contextlib.contextmanager
def alone(folder: str) -> Iterator[None]:
    """Context manager for exclusive access: waits until no other thread or process is inside with the same folder."""
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
    """A new temporary file, open and locked, so that no other process removes it."""
    while True:
        temporary = os.path.join(folder, f".{uuid.uuid4().hex}.tmp")
        file = open(temporary, "xb")  # noqa: SIM115
        _lock(file.fileno())
        if os.fstat(file.fileno()).st_nlink:
            return temporary, file
        file.close()  # another process removed it before it was locked


def _lock(descriptor: int) -> None:
    """Locks a file for this process, if its file system supports locks."""
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
