"""The document of our topics is made from the code, is AsyncAPI, and names what the code knows."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any, Final

from jsonschema import Draft7Validator

from omninode_bridge.core.topics import TOPICS
from omninode_bridge.infrastructure.kafka import asyncapi
from tests.asyncapi import DOCUMENT, document

# The specification's own schema, from the package @asyncapi/specs 6.11.1 (Apache License 2.0),
# without its white space.
SCHEMA: Final = Path(__file__).with_name("asyncapi-3.0.0.json.gz")


def test_the_document_is_what_the_code_makes() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == asyncapi.text(), "make asyncapi"


def test_the_document_is_asyncapi_3() -> None:
    schema: dict[str, Any] = json.loads(gzip.decompress(SCHEMA.read_bytes()))
    errors = [error.message for error in Draft7Validator(schema).iter_errors(document())]
    assert errors == []
    broken = document() | {"channels": {"action": {"address": 7}}}
    assert not Draft7Validator(schema).is_valid(broken), "the schema tells"


def test_every_topic_and_message_is_in_it() -> None:
    channels = document()["channels"].values()
    assert {channel["address"] for channel in channels} == TOPICS
    messages = document()["components"]["messages"]
    assert {message["name"] for message in messages.values()} == TOPICS


def test_every_reference_leads_somewhere() -> None:
    def references(node: object) -> list[str]:
        match node:
            case {"$ref": str(place)}:
                return [place]
            case dict():
                return [each for value in node.values() for each in references(value)]
            case list():
                return [each for value in node for each in references(value)]
            case _:
                return []

    found = references(document())
    assert found
    for place in found:
        node: Any = document()
        for step in place.removeprefix("#/").split("/"):
            node = node[step]
