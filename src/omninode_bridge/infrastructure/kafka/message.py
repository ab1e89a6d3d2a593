"""A message of Kafka as bytes, before anything is known of it."""

from __future__ import annotations

from dataclasses import dataclass

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Message:
    """Key, value and headers; a header may be there more than once, and any part may be missing."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    def size(self) -> int:
        """Return how many bytes it has, without what Kafka itself adds."""
        headers = sum(len(name.encode()) + len(value or b"") for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers
