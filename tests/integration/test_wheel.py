"""What a user gets: the built wheel, in an environment with nothing in it but what it needs."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import Final

import pytest

REPOSITORY: Final = Path(__file__).parents[2]
STEP_WAIT_S: Final = 300.0


def run(*command: str | Path, folder: Path) -> str:
    """Run a command in `folder` to its end; return what it said on its standard output."""
    done = subprocess.run(  # noqa: S603 - our own commands
        command, cwd=folder, capture_output=True, text=True, timeout=STEP_WAIT_S, check=False
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stderr}"
    return done.stdout


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """Build the wheel."""
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir")
    run(*build, tmp_path / "dist", REPOSITORY, folder=tmp_path)
    (built,) = (tmp_path / "dist").glob("*.whl")
    return built


@pytest.fixture
def empty_environment(server_folder: Path) -> Path:
    """Make a virtual environment with nothing but pip; return the folder of its programs."""
    # Where the server's account can reach it: the server's binaries are installed here.
    venv.create(server_folder / "venv", with_pip=True)
    return server_folder / "venv" / "bin"


def test_the_wheel_carries_the_code_the_statements_and_the_migrations(wheel: Path) -> None:
    package = REPOSITORY / "src" / "omninode_bridge"
    suffixes = {".py", ".sql", ".yaml", ".typed"}
    expected = {
        f"omninode_bridge/{path.relative_to(package).as_posix()}"
        for path in package.rglob("*")
        if path.suffix in suffixes or path.name == "py.typed"
    } | {
        f"omninode_bridge/_migrations/{path.name}"
        for path in (REPOSITORY / "migrations").glob("*.sql")
    }
    assert expected <= set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.timeout(600)  # may have to download the lock's files
def test_the_wheel_works_alone(
    wheel: Path, empty_environment: Path, server_folder: Path, tmp_path: Path
) -> None:
    python = empty_environment / "python"
    # The locked files with their hashes, then the wheel, which takes from them what it asks for:
    # a dependency that is used but not declared is missing here.
    pip = (python, "-m", "pip", "--quiet", "--disable-pip-version-check")
    house = tmp_path / "house"
    lock = REPOSITORY / "requirements.lock"
    run(*pip, "download", "--no-deps", "--require-hashes", "-r", lock, "-d", house, folder=tmp_path)
    run(*pip, "install", "--no-index", "--find-links", house, wheel, folder=tmp_path)
    run(*pip, "check", folder=tmp_path)

    files = tmp_path / "files"
    files.mkdir()
    (files / "one.txt").write_text("one\n", encoding="utf-8")
    (files / "two.txt").write_text("two\n", encoding="utf-8")
    stamp = (empty_environment / "omninode-bridge", "stamp", files, "--namespace", "wheel")
    data = ("--data-dir", server_folder / "data", "--json")
    summary = json.loads(run(*stamp, *data, folder=tmp_path))
    assert summary["files"] == 2
