"""The command that measures: how fast this machine, this disk and this server are."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import uuid4

import typer

from omninode_bridge import BridgeError, ConfigurationError, KafkaPlace
from omninode_bridge.app.outside_bus import kafka_place
from omninode_bridge.bench import KafkaLoad, Load, Processes, Saga, app
from omninode_bridge.cli import output
from omninode_bridge.cli.running import AsJson, DatabaseUrl, DataDir, Place, find_place, run
from omninode_bridge.infrastructure.kafka.topic_specs import topic_specs
from omninode_bridge.infrastructure.postgres.embedded import EmbeddedServer
from omninode_bridge.infrastructure.postgres.pgbench import pgbench_tps
from omninode_bridge.settings import read_kafka

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from omninode_bridge.bench import Figures, KafkaFigures, SagaFigures, SharedFigures


def bench(
    mode: Annotated[
        Literal["spread", "hot", "saga"],
        typer.Option(help="10,000 keys, a single one, or runs of two steps."),
    ] = "spread",
    clients: Annotated[int, typer.Option(min=1, help="Asks in flight.")] = 1_000,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to measure.")] = 10.0,
    processes: Annotated[
        int, typer.Option(min=1, max=64, help="Compare one process with so many that share.")
    ] = 1,
    bus: Annotated[
        Literal["log", "kafka"],
        typer.Option(help="Ask in this process, or over topics of Kafka from another one."),
    ] = "log",
    kafka: Annotated[
        str | None,
        typer.Option(
            metavar="SERVERS",
            help="host:port,... of the Kafka (default: OMNINODE_KAFKA_BOOTSTRAP).",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Measure confirmed actions, or runs, per second, with pgbench on the same server just before.

    With --bus kafka, a client in another process asks by the action topic and hears the outcomes on
    the topics of events; these topics are gone afterwards. Of the environment's Kafka nothing else
    is used.

    With --processes N, measure what sharing costs: one process, then N of which each asks for keys
    of its own partitions, then N of which half of the asks cross to another one.

    On an embedded database of its own that is gone afterwards, unless one is named.
    """
    figures: Figures | KafkaFigures | SagaFigures | SharedFigures
    if bus == "kafka":
        if processes > 1 or mode == "saga":
            message = "over Kafka one process is measured, with --mode spread or hot"
            raise typer.BadParameter(message)
        over_kafka = KafkaLoad(mode, clients, seconds)
        figures = run(_bench_kafka(data_dir, database_url, _named(kafka), over_kafka))
    elif kafka is not None:
        raise typer.BadParameter("--kafka belongs to --bus kafka")
    elif processes > 1:
        if mode != "spread":
            message = f"several processes are compared with --mode spread, not with {mode}"
            raise typer.BadParameter(message)
        figures = run(_compare(data_dir, database_url, Processes(processes, clients, seconds)))
    else:
        load = Saga(clients, seconds) if mode == "saga" else Load(mode, clients, seconds)
        figures = run(_bench(data_dir, database_url, load))
    if as_json:
        output.print_json(figures.as_dict())
    else:
        output.print_object("measured", figures.as_dict())


async def _bench(
    data_dir: Path | None, database_url: str | None, load: Load | Saga
) -> Figures | SagaFigures:
    async with _place(data_dir, database_url) as place, _url(place) as url:
        yardstick = await _yardstick(url)
        async with place.writing(app) as bridge:
            if isinstance(load, Load):
                bridge.observe(load.observe)
            return await load.run(bridge, yardstick)


async def _bench_kafka(
    data_dir: Path | None, database_url: str | None, named: KafkaPlace, load: KafkaLoad
) -> KafkaFigures:
    async with _place(data_dir, database_url) as place, _url(place) as url:
        yardstick = await _yardstick(url)
        async with (
            _topics(named) as kafka,
            replace(place, kafka=lambda: kafka).writing(app, load.observe) as bridge,
        ):
            return await load.run(bridge, kafka, yardstick)


def _named(servers: str | None) -> KafkaPlace:
    named = read_kafka()
    if servers is not None:
        named = KafkaPlace(servers, "" if named is None else named.prefix)
    if named is None:
        raise ConfigurationError("name a Kafka, with --kafka or OMNINODE_KAFKA_BOOTSTRAP")
    return kafka_place(named)


@asynccontextmanager
async def _topics(named: KafkaPlace) -> AsyncIterator[KafkaPlace]:
    """Yield a place whose topics are its own, and gone afterwards."""
    from omninode_bridge.infrastructure.kafka.admin import KafkaAdmin  # noqa: PLC0415 - an extra

    own = replace(named, prefix=f"{named.prefix}bench-{uuid4().hex}.")
    try:
        yield own
    finally:
        try:
            async with KafkaAdmin(own.client_settings()) as admin:
                await admin.delete([spec.name for spec in topic_specs(1, own.prefix)])
        except BridgeError as error:
            output.say(f"topics {own.prefix}... may be left: {error}")


async def _compare(
    data_dir: Path | None, database_url: str | None, processes: Processes
) -> SharedFigures:
    async with _place(data_dir, database_url) as place, _url(place) as url:
        yardstick = await _yardstick(url)
        async with place.writing(app) as bridge:  # makes what is lacking, and gives everything back
            partitions = bridge.partitions
        return await processes.run(url, partitions, yardstick)


async def _yardstick(url: str) -> float | None:
    tps = await pgbench_tps(url)
    if tps is None:
        output.say("pgbench is not here: there is no yardstick")
    return tps


@asynccontextmanager
async def _place(data_dir: Path | None, database_url: str | None) -> AsyncIterator[Place]:
    """Yield the place that is named, or a folder that lasts as long as we do.

    The environment names none, nor a Kafka: nobody wants a load where they work by surprise.
    """
    if data_dir is not None or database_url is not None:
        yield replace(find_place(data_dir, database_url), kafka=lambda: None)
        return
    folder = _make_folder()
    try:
        yield replace(find_place(folder / "data", None), kafka=lambda: None)
    finally:
        await EmbeddedServer(folder / "data").stopped()
        shutil.rmtree(folder)


@asynccontextmanager
async def _url(place: Place) -> AsyncIterator[str]:
    """Yield where the server is, and keep it running until the load is over."""
    server = place.server()
    if server is None:
        assert place.database_url is not None
        yield place.database_url
        return
    async with server.use() as address:
        yield address.url


def _make_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="omninode-bridge-bench-"))
    folder.chmod(0o711)  # root's own folder would keep the server's account out
    return folder
