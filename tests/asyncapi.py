"""Holds messages against the document of our topics (docs/architecture/asyncapi.yaml)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import orjson
import yaml
from jsonschema import Draft202012Validator, FormatChecker

from tests.architecture.source import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Mapping

DOCUMENT = REPOSITORY / "docs" / "architecture" / "asyncapi.yaml"


@cache
def document() -> dict[str, Any]:
    """Return the document as it stands in the repository."""
    found: dict[str, Any] = yaml.safe_load(DOCUMENT.read_text(encoding="utf-8"))
    return found


def check_message(topic: str, headers: Mapping[str, bytes], value: bytes | None) -> None:
    """Assert that a message is what the document says of its topic."""
    (message,) = [
        each for each in document()["components"]["messages"].values() if each["name"] == topic
    ]
    _validate(message["headers"], {name: said.decode() for name, said in headers.items()})
    if "payload" in message:
        _validate(message["payload"], orjson.loads(value or b""))


def _validate(schema: Mapping[str, Any], instance: object) -> None:
    whole = {**schema, "components": document()["components"]}
    Draft202012Validator(whole, format_checker=FormatChecker()).validate(instance)
