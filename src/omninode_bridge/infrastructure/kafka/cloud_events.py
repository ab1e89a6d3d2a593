"""CloudEvents 1.0 in binary mode: attributes are headers `ce_...`, the data is the value.

Sources: CloudEvents 1.0.2, and its Kafka protocol binding 1.0.2 (section 3.2).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from omninode_bridge.infrastructure.kafka.message import Headers

SPEC_VERSION: Final = "1.0"
PREFIX: Final = "ce_"
CONTENT_TYPE: Final = "content-type"
JSON: Final = "application/json"


class NotReadable(ValueError):
    """A message that is not what belongs on its topic; its text is the reason."""


def headers_of(attributes: Mapping[str, str | None]) -> Headers:
    """Return the headers of an event with JSON data; attributes that are None are left out."""
    said = {"specversion": SPEC_VERSION, **attributes}
    headers = [(PREFIX + name, value.encode()) for name, value in said.items() if value is not None]
    return (*headers, (CONTENT_TYPE, JSON.encode()))


def attributes_of(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """Return the attributes of an event with JSON data, whoever wrote it.

    Raises:
        NotReadable: it is no event of this version in binary mode, or its data is not JSON.
    """
    found: dict[str, str] = {}
    for name, value in headers:
        attribute = _attribute(name)
        if attribute is None:
            continue
        if attribute in found:
            raise NotReadable(f"header {name.lower()} is there more than once")
        try:
            found[attribute] = (value or b"").decode()
        except UnicodeDecodeError:
            raise NotReadable(f"header {name.lower()} is not UTF-8") from None
    content_type = found.pop(CONTENT_TYPE, JSON)
    version = required(found, "specversion")
    if version != SPEC_VERSION:
        raise NotReadable(f"CloudEvents {version!r} is an unknown version; {SPEC_VERSION} is known")
    if content_type.partition(";")[0].strip().lower() != JSON:
        raise NotReadable(f"the content is {content_type!r}, not {JSON}")
    return found


@lru_cache(maxsize=256)
def _attribute(header: str) -> str | None:
    lowered = header.lower()
    if lowered == CONTENT_TYPE:
        return CONTENT_TYPE
    return lowered.removeprefix(PREFIX) if lowered.startswith(PREFIX) else None


def required(attributes: Mapping[str, str], name: str) -> str:
    """Return an attribute that must be there.

    Raises:
        NotReadable: it is not, or is empty.
    """
    value = attributes.get(name)
    if not value:
        raise NotReadable(f"header {PREFIX}{name} is missing")
    return value
