"""The command of the ingest application."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from omninode_bridge import ConfigurationError
from omninode_bridge import ingest as application
from omninode_bridge.cli import output
from omninode_bridge.cli.progress import counting
from omninode_bridge.cli.running import AsJson, DatabaseUrl, DataDir, find_place, run

if TYPE_CHECKING:
    from omninode_bridge.cli.running import Place

REPORTS_MAX: Final = 20


class _Reports:
    """Names the first rows that are skipped, and counts the others."""

    def __init__(self) -> None:
        self._rows = 0

    def tell(self, row: application.InvalidRow) -> None:
        self._rows += 1
        if self._rows <= REPORTS_MAX:
            output.say(str(row))

    def end(self) -> None:
        if self._rows > REPORTS_MAX:
            output.say(f"{self._rows - REPORTS_MAX:,} more rows are invalid")


def ingest(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, help="A CSV file, perhaps gzipped."
        ),
    ],
    contract: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="What the columns mean, as YAML (see examples/).",
        ),
    ],
    strict: Annotated[
        bool, typer.Option("--strict", help="Check the whole file before anything is committed.")
    ] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Make each row of FILE an action, once for ever: a second run commits nothing.

    Exit status 1: some rows are malformed (the first are named by line), or the file breaks off;
    the others are committed, or with --strict none is.
    """
    place = find_place(data_dir, database_url)
    reports = _Reports()
    try:
        summary = run(_ingest(place, file, _read(contract), reports, strict=strict))
    except application.InvalidFile as error:
        if error.summary is not None:
            _print(error.summary, as_json=as_json)
        raise
    finally:
        reports.end()
    _print(summary, as_json=as_json)
    raise typer.Exit(1 if summary.invalid else 0)


def _print(summary: application.Summary, *, as_json: bool) -> None:
    if as_json:
        output.print_json(summary.as_dict())
    else:
        output.print_object("ingested", summary.as_dict())


async def _ingest(
    place: Place,
    file: Path,
    contract: application.Contract,
    reports: _Reports,
    *,
    strict: bool,
) -> application.Summary:
    stored: list[application.Contract] = []
    if not place.is_new():
        async with place.reading(application.contracts) as bridge:
            stored = await application.stored_contracts(bridge)
    async with place.writing(application.app_of([*stored, contract])) as bridge:
        with counting("bytes") as counter:
            return await application.ingest(
                bridge,
                file,
                contract,
                strict=strict,
                report=reports.tell,
                progress=lambda now: counter(now.bytes_read, now.bytes_total),
            )


def _read(path: Path) -> application.Contract:
    try:
        return application.load_contract(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        message = f"{path}: not UTF-8: {error}"
        raise ConfigurationError(message) from error
