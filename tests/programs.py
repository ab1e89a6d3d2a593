"""The program as a user runs it: a process of its own, judged by its output and its exit status."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

PROGRAM: Final = Path(sys.executable).with_name("omninode-bridge")
WAIT_S: Final = 60.0
OURS: Final = re.compile("OMNINODE|ENABLE_PURE_REDUCER")


@dataclass(frozen=True, slots=True)
class Done:
    """A run that has ended."""

    status: int
    out: bytes
    words: str

    def object(self) -> dict[str, Any]:
        """Return the one object that was printed."""
        (line,) = self.out.splitlines()
        found: dict[str, Any] = orjson.loads(line)
        return found

    def objects(self) -> list[dict[str, Any]]:
        """Return the objects that were printed, one a line."""
        return [orjson.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True, slots=True)
class Program:
    """`omninode-bridge` on one data folder."""

    data_dir: Path

    def command(self, *arguments: str | Path) -> list[str]:
        """Return the command line."""
        return [str(PROGRAM), *map(str, arguments), "--data-dir", str(self.data_dir)]

    def run(self, *arguments: str | Path, status: int = 0) -> Done:
        """Run it to its end, which has to be with exit status `status`."""
        done = run(*self.command(*arguments))
        assert done.status == status, f"{arguments} ended with {done.status}:\n{done.words}"
        return done

    def json(self, *arguments: str | Path, status: int = 0) -> Done:
        """Run it with `--json`."""
        return self.run(*arguments, "--json", status=status)


def run(*command: str | Path, folder: Path | None = None, **environment: str) -> Done:
    """Run any command in `folder`, without the settings of whoever runs the tests."""
    inherited = {name: text for name, text in os.environ.items() if not OURS.search(name)}
    ended = subprocess.run(  # noqa: S603 - our own commands
        command,
        cwd=folder,
        capture_output=True,
        timeout=WAIT_S,
        check=False,
        env=inherited | environment,
    )
    return Done(ended.returncode, ended.stdout, ended.stderr.decode(errors="replace"))
