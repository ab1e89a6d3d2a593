"""The commands for where the log and a bus outside are in step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from omninode_bridge.cli import output
from omninode_bridge.cli.running import AsJson, DatabaseUrl, DataDir, find_place, run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from omninode_bridge.cli.running import Place

bus = typer.Typer(help="See how far a bus outside (Kafka) is in step.", no_args_is_help=True)


@bus.command()
def positions(
    data_dir: DataDir = None, database_url: DatabaseUrl = None, as_json: AsJson = False
) -> None:
    """List how far history was relayed, and how far actions were taken over."""

    async def work(place: Place) -> Sequence[dict[str, Any]]:
        async with place.reading() as bridge:
            return await bridge.bus_positions()

    found = run(work(find_place(data_dir, database_url)))
    if as_json:
        for each in found:
            output.print_json(each)
    else:
        columns = ["consumer", "topic", "partition", "home", "next", "updated_at"]
        output.print_rows(columns, [[each[column] for column in columns] for each in found])


@bus.command()
def forget(
    topic: Annotated[str, typer.Argument(help="The topic's whole name, its prefix included.")],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Forget the positions of a topic that was made again: it is begun from its beginning.

    Find out first what is missing: of an action topic, whatever nobody had taken over is gone.
    """

    async def work(place: Place) -> int:
        async with place.reading() as bridge:
            return await bridge.forget_bus_topic(topic)

    forgotten = run(work(find_place(data_dir, database_url)))
    if as_json:
        output.print_json({"topic": topic, "forgotten": forgotten})
    else:
        output.print_object("forgotten", {"topic": topic, "positions": forgotten})
    if not forgotten:
        raise typer.Exit(1)
