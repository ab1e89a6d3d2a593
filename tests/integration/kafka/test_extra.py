"""Kafka is an extra: without its package everything else works, and its lack is named."""

from __future__ import annotations

import sys

import pytest

from omninode_bridge import Bridge, ConfigurationError, KafkaPlace
from tests.bridges import app
from tests.programs import run


def test_a_package_that_is_missing_is_named_with_what_installs_it() -> None:
    program = """
import asyncio, sys
sys.modules["confluent_kafka"] = None  # as if it were not installed
from omninode_bridge import App, Bridge, ConfigurationError
from omninode_bridge.cli import main

async def main():
    async with Bridge.open(App("a"), database_url="postgresql://nowhere", kafka="there:9092"):
        pass

try:
    asyncio.run(main())
except ConfigurationError as error:
    print(error)
"""
    done = run(sys.executable, "-c", program)
    assert done.status == 0, done.words
    assert b"pip install omninode-bridge[kafka]" in done.out


@pytest.mark.parametrize(
    "place", ["nowhere", KafkaPlace("there:port"), KafkaPlace("there:9092", "a prefix")]
)
async def test_a_place_that_cannot_be_is_refused(place: KafkaPlace | str) -> None:
    with pytest.raises(ConfigurationError, match=r"a Kafka|the prefix"):
        async with Bridge.open(app, database_url="postgresql://nowhere", kafka=place):
            pass
