"""Builds and checks the sdist and the wheel of the last commit, and tests them: release.py [PYTHON=JAX ...].

    .venv/bin/python tools/release.py python3.11=0.10.0 python3.13=0.10.2

Both files go to dist/. Each PYTHON=JAX gets a fresh environment in build/release/, with logs of its tests beside it,
and prints a row of the table of docs/versions.md: a training run with the wheel and its dependencies alone; then, with
the extra `test`, the doctests of the installed package and the fast tier, from the sdist without its own jaxnn. It
takes about ten minutes on two cores.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from smoke import PROGRAM

ROOT = Path(__file__).resolve().parents[1]
DIST, ROWS = ROOT / "dist", ROOT / "build" / "release"
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

VERSIONS = """
import platform, sys
import jax, jaxnn, numpy, optax
assert "site-packages" in jaxnn.__file__, jaxnn.__file__
print("tested:", jaxnn.__file__, file=sys.stderr)
print(platform.python_version(), jax.__version__, numpy.__version__, optax.__version__)
"""


def run(*command: str | Path, folder: Path = ROOT) -> str:
    """Standard output of a command, which must succeed."""
    return subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


def build() -> tuple[Path, Path]:
    """Sdist and wheel of the last commit, checked."""
    shutil.rmtree(DIST, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder)
        run("git", "archive", "--output", checkout / "commit.tar", "HEAD")
        with tarfile.open(checkout / "commit.tar") as archive:
            files = {member.name for member in archive if member.isfile()}
            archive.extractall(checkout / "commit", filter="data")
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", DIST, folder=checkout / "commit")
    (sdist,), (wheel,) = DIST.glob("*.tar.gz"), DIST.glob("*.whl")
    with tarfile.open(sdist) as archive:
        missing = files - {name.partition("/")[2] for name in archive.getnames()}
    assert not missing, f"the sdist lacks {sorted(missing)}"
    print(run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel))
    print(run(sys.executable, "-m", "check_wheel_contents", wheel))
    return sdist, wheel


def environment(sdist: Path, wheel: Path, interpreter: str, jax: str) -> tuple[Path, str]:
    """A fresh environment with the wheel and the unpacked sdist: its folder, and the losses of a training run."""
    version = run(interpreter, "-c", "import platform; print(platform.python_version())")
    folder = ROWS / f"python{version}-jax{jax}"
    shutil.rmtree(folder, ignore_errors=True)
    run(interpreter, "-m", "venv", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    pip = (python, "-m", "pip", "install", "--quiet")
    run(*pip, "--upgrade", "pip")
    run(*pip, wheel, f"jax=={jax}", f"jaxlib=={jax}")
    losses = run(python, "-c", PROGRAM, folder=folder).rpartition("loss ")[2]
    run(*pip, f"jaxnn[test] @ {wheel.as_uri()}", f"jax=={jax}", f"jaxlib=={jax}")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    source = folder / sdist.name.removesuffix(".tar.gz")
    shutil.rmtree(source / "jaxnn")
    return source.rename(folder / "sdist").parent, losses


def tested(folder: Path, name: str, *arguments: str) -> str:
    """The numbers of tests that passed, failed and so on; the output of pytest goes to a file."""
    command = (folder / "venv" / "bin" / "python", "-m", "pytest", "-n", "2", *arguments)
    with (folder / f"{name}.log").open("w+") as file:
        subprocess.run(command, cwd=folder / "sdist", env=ENVIRONMENT, stdout=file, stderr=subprocess.STDOUT)
        file.seek(0)
        return file.read().splitlines()[-1].strip("= ").rpartition(" in ")[0]


def row(folder: Path, losses: str) -> str:
    """A row of the table: versions, results, and processor seconds of the tests."""
    versions = run(folder / "venv" / "bin" / "python", "-c", VERSIONS, folder=folder / "sdist")
    began = os.times()
    doctests = tested(folder, "doctests", "--pyargs", "jaxnn")
    fast = tested(folder, "fast", "tests", "-m", "not slow")
    ended = os.times()
    seconds = ended.children_user + ended.children_system - began.children_user - began.children_system
    line = f"| {' | '.join([*versions.split(), losses, doctests, fast, f'{seconds:.0f}'])} |"
    print(line, flush=True)
    return line


if __name__ == "__main__":
    files = build()
    rows = [row(*environment(*files, *argument.rsplit("=", 1))) for argument in sys.argv[1:]]
    sys.exit(any(" failed" in text or " error" in text or text.count(" passed") < 2 for text in rows))
