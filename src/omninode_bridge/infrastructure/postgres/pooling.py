"""Poolers of transactions, which may give each transaction another backend.

What a session keeps is then somebody else's: a prepared statement's name stands for nothing on the
next backend, or for what another client has prepared there; what is listened to is heard by nobody.
So behind a pooler no prepared statement is kept. The driver then prepares and executes each one
without a Sync in between, and up to the Sync a pooler leaves the backend as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import asyncpg

from omninode_bridge.infrastructure.postgres.statements import Statements

if TYPE_CHECKING:
    from collections.abc import Mapping

SQL: Final = Statements("omninode_bridge.infrastructure.postgres", "pooling.sql")

CONNECT_WAIT_S: Final = 10.0
_KEEPS_NOTHING: Final = {"statement_cache_size": 0}


async def with_pooler_seen(connect: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `connect`, such that nothing is kept in sessions if what answers there is a pooler.

    A pooler names a backend of its own invention to its clients. One of sessions is taken for one
    of transactions: nothing tells them apart, and it costs only time.
    """
    connection = await asyncpg.connect(**{**connect, **_KEEPS_NOTHING}, timeout=CONNECT_WAIT_S)
    try:
        backend = await connection.fetchval(SQL["backend"], timeout=CONNECT_WAIT_S)
        pooled = backend != connection.get_server_pid()
    finally:
        connection.terminate()
    return {**connect, **_KEEPS_NOTHING} if pooled else connect


def is_pooled(connect: Mapping[str, Any]) -> bool:
    """Return whether a pooler was seen there."""
    return connect.get("statement_cache_size") == 0
