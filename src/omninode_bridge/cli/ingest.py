"""The command of the ingest application."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omninode_bridge import ConfigurationError
from omninode_bridge import ingest as application
from omninode_bridge.cli import output
from omninode_bridge.cli.progress import counting
from omninode_bridge.cli.running import AsJson, DatabaseUrl, DataDir, find_place, run

if TYPE_CHECKING:
    from omninode_bridge.cli.running import Place


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

    Exit status 1: some rows are malformed (they are named by line); the others are committed, or
    with --strict none is.
    """
    place = find_place(data_dir, database_url)
    summary = run(_ingest(place, file, _read(contract), strict=strict))
    if as_json:
        output.print_json(summary.as_dict())
    else:
        output.print_object("ingested", summary.as_dict())
    raise typer.Exit(1 if summary.invalid else 0)


async def _ingest(
    place: Place, file: Path, contract: application.Contract, *, strict: bool
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
                report=lambda row: output.say(str(row)),
                progress=lambda now: counter(now.bytes_read, now.bytes_total),
            )


def _read(path: Path) -> application.Contract:
    try:
        return application.load_contract(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        message = f"{path}: not UTF-8: {error}"
        raise ConfigurationError(message) from error
