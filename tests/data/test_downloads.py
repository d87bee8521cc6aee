"""The downloads: the real pip with a folder for an index, and stand-ins for apt-get and dpkg."""

import hashlib
import io
import os
import tarfile
import zipfile

import pytest

from jaxnn.data import Unavailable, _fetch
from jaxnn.data._fetch import Archive, fetch

TEXT = b"one\ntwo\n"
SHA = hashlib.sha256(TEXT).hexdigest()
MEMBER = "parcel_of_tests/files/a.txt"
WHEEL = Archive("wheel", "parcel-of-tests", "1.0", {MEMBER: SHA})
SDIST = WHEEL._replace(kind="sdist")
DEB = WHEEL._replace(kind="deb", files={"usr/share/parcel-of-tests/a.txt": SHA})
PIP = "Run `pip install --no-deps parcel-of-tests==1.0` or `uv pip install --no-deps parcel-of-tests==1.0`"
APT = "On Debian or Ubuntu run `apt-get update` and load again, or `apt-get install parcel-of-tests`"


def unavailable(archive):
    with pytest.raises(Unavailable) as error:
        fetch(archive)
    return str(error.value)


def told(cache, last, fix):
    return (
        f"load: expected a.txt of parcel-of-tests 1.0, got none that fits from the cache {cache} (absent); the "
        f"installed parcel-of-tests (absent); {last}. {fix}, or copy {cache} from a machine that has loaded it."
    )


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that is pip's only index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def write_wheel(folder):
    info = "parcel_of_tests-1.0.dist-info"
    with zipfile.ZipFile(folder / "parcel_of_tests-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(MEMBER, TEXT)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: parcel-of-tests\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def write_tar(path, contents):
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_pip_downloads_a_wheel(index, cache):
    write_wheel(index)
    assert fetch(WHEEL) == (TEXT,)
    assert (cache / "a.txt").read_bytes() == TEXT


def test_pip_downloads_a_source_archive_and_runs_nothing_of_it(index, cache, tmp_path):
    marker = tmp_path / "it ran"
    setup = f"open({str(marker)!r}, 'w')\nfrom setuptools import setup\nsetup(name='parcel-of-tests', version='1.0')\n"
    top = "parcel-of-tests-1.0"
    contents = {f"{top}/setup.py": setup.encode(), f"{top}/PKG-INFO": b"Name: parcel-of-tests\nVersion: 1.0\n"}
    write_tar(index / f"{top}.tar.gz", contents | {f"{top}/{MEMBER}": TEXT})
    assert fetch(SDIST) == (TEXT,)
    assert not marker.exists()


def test_pip_finds_nothing(index, cache):
    reason = (
        "ERROR: Could not find a version that satisfies the requirement parcel-of-tests==1.0 (from versions: none) "
        "ERROR: No matching distribution found for parcel-of-tests==1.0"
    )
    assert unavailable(WHEEL) == told(cache, f"pip download parcel-of-tests==1.0 ({reason})", PIP)


def test_no_pip(cache, monkeypatch):
    find_spec = _fetch.importlib.util.find_spec
    monkeypatch.setattr(_fetch.importlib.util, "find_spec", lambda name: None if name == "pip" else find_spec(name))
    reason = "no pip here: `python -m ensurepip` or `uv pip install pip` adds it"
    assert unavailable(WHEEL) == told(cache, f"pip download parcel-of-tests==1.0 ({reason})", PIP)


def test_apt_downloads_a_package(cache, tmp_path, monkeypatch):
    write_tar(tmp_path / "data.tar", {f"./{next(iter(DEB.files))}": TEXT})
    stand_in(tmp_path, monkeypatch, "apt-get", 'test "$1 $2" = "download parcel-of-tests" && touch parcel_1.0_all.deb')
    stand_in(tmp_path, monkeypatch, "dpkg", f'test "$1" = --fsys-tarfile && test -f "$2" && cat "{tmp_path}/data.tar"')
    assert fetch(DEB) == (TEXT,)
    assert files(cache) == ["a.txt"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            "echo 'W: be warned' >&2; echo 'E: Unable to locate package parcel-of-tests' >&2; exit 100",
            "E: Unable to locate package parcel-of-tests",
        ),
        ("echo no words of rank >&2; exit 1", "no words of rank"),
        ("exit 7", "exit status 7"),
    ],
)
def test_apt_fails(cache, tmp_path, monkeypatch, script, reason):
    stand_in(tmp_path, monkeypatch, "apt-get", script)
    assert unavailable(DEB) == told(cache, f"apt-get download parcel-of-tests ({reason})", APT)


def test_no_apt(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert unavailable(DEB) == told(cache, "apt-get download parcel-of-tests (this machine has no apt-get)", APT)


def stand_in(tmp_path, monkeypatch, name, script):
    (tmp_path / "bin").mkdir(exist_ok=True)
    (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 half", b"\x1f\x8b\x08 half"])
def test_a_damaged_archive(content):
    with pytest.raises(_fetch._Failed) as error:
        _fetch._unpack(content, [MEMBER])
    assert str(error.value).startswith("a damaged archive: ")
