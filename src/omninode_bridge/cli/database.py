"""The commands for the database itself: migrations, projection, number of partitions."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omninode_bridge.app.repartitioning import repartition as change_number
from omninode_bridge.cli import output
from omninode_bridge.cli.running import AsJson, DatabaseUrl, DataDir, Place, find_place, run
from omninode_bridge.infrastructure.postgres import migrations
from omninode_bridge.settings import read_kafka

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from omninode_bridge.services.repartition import Repartitioning

migrate = typer.Typer(help="Bring the tables up to date, or take them back.", no_args_is_help=True)
projection = typer.Typer(help="Look after the projection.", no_args_is_help=True)


@migrate.command()
def up(data_dir: DataDir = None, database_url: DatabaseUrl = None, as_json: AsJson = False) -> None:
    """Apply what the database lacks."""

    async def work(place: Place) -> list[str]:
        async with _connecting(place) as connect:
            return await migrations.upgrade(connect)

    applied = run(work(find_place(data_dir, database_url)))
    _print_names("applied", applied, as_json=as_json)


@migrate.command()
def down(
    steps: Annotated[int, typer.Option(min=1, help="How many to take back.")] = 1,
    drop_data: Annotated[
        bool, typer.Option("--drop-data", help="Even if that drops rows, for good.")
    ] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Take back the last migration; refused where rows would go, unless told to drop them."""

    async def work(place: Place) -> list[str]:
        async with _connecting(place) as connect:
            return await migrations.downgrade(connect, steps=steps, drop_data=drop_data)

    undone = run(work(find_place(data_dir, database_url)))
    _print_names("undone", undone, as_json=as_json)


@migrate.command()
def status(
    data_dir: DataDir = None, database_url: DatabaseUrl = None, as_json: AsJson = False
) -> None:
    """List the migrations, and whether they are applied."""

    async def work(place: Place) -> list[migrations.MigrationStatus]:
        place.require_used()
        async with _connecting(place, alone=False) as connect:
            return await migrations.status(connect)

    found = run(work(find_place(data_dir, database_url)))
    if as_json:
        for each in found:
            output.print_json({"migration": each.name, "applied": each.applied})
    else:
        output.print_rows(["migration", "applied"], [[each.name, each.applied] for each in found])


@projection.command()
def rebuild(
    data_dir: DataDir = None, database_url: DatabaseUrl = None, as_json: AsJson = False
) -> None:
    """Build the projection anew from the log, while reads and writes go on."""

    async def work(place: Place) -> int:
        async with place.reading() as bridge:
            return await bridge.rebuild_projection()

    rows = run(work(find_place(data_dir, database_url)))
    if as_json:
        output.print_json({"rows": rows})
    else:
        output.print_object("rebuilt", {"rows": rows})


def repartition(
    partitions: Annotated[int, typer.Option(help="How many there are to be.")],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Change the number of partitions of a database that is at rest: all of it, or nothing.

    Everything a key has moves with it, in its order. Exit status 1, and nothing is changed, while a
    bridge runs or something is still to be done; what it is, is said.
    """

    async def work(place: Place) -> Repartitioning:
        place.require_used()
        return await change_number(
            partitions,
            data_dir=place.data_dir,
            database_url=place.database_url,
            kafka=read_kafka(),
            progress=lambda what: output.say(f"moving {what}"),
        )

    began = time.monotonic()
    done = run(work(find_place(data_dir, database_url)))
    for each in done.obstacles:
        output.say(each)
    if done.obstacles:
        output.say(f"there are still {done.partitions} partitions: nothing was changed")
    summary = asdict(done) | {"seconds": round(time.monotonic() - began, 3)}
    if as_json:
        output.print_json(summary)
    elif not done.obstacles:
        del summary["obstacles"]
        output.print_object("repartitioned", summary)
    raise typer.Exit(1 if done.obstacles else 0)


@asynccontextmanager
async def _connecting(place: Place, *, alone: bool = True) -> AsyncIterator[Mapping[str, Any]]:
    """Yield what the driver connects with; `alone`: no other writer is in the data folder."""
    server = place.server()
    if server is None:
        yield {"dsn": place.database_url}
    elif alone:
        async with server.writing(place.say_waiting), server.use() as address:
            yield address.connect_arguments
    else:
        async with server.use() as address:
            yield address.connect_arguments


def _print_names(what: str, names: list[str], *, as_json: bool) -> None:
    if as_json:
        output.print_json({what: names})
    else:
        output.print_rows([what], [[name] for name in names] or [["nothing"]])
