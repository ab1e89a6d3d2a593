"""How the embedded server is set up, and why: one machine, shared with the process that uses it.

Rule 1: nothing here trades durability for speed. What was acknowledged is on the disk (R4).
Rule 2: the files are written anew at every start. `ALTER SYSTEM` overrides a setting for good.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omninode_bridge.infrastructure.postgres.embedded.account import Account

ROLE: Final = "omninode_bridge"
DATABASE: Final = "omninode_bridge"
PORT: Final = 5432  # No port is opened; it is a part of the socket's name.

_SETTINGS: Final[Mapping[str, str]] = {
    # --- who can reach it: nobody but the account that started it, over a socket in its folder
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",  # four that write (37), a few that look (8), and somebody's psql
    # --- durability: the defaults, said aloud so that nothing else can switch them off
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # --- memory: client and server share a small machine; pages are only taken when touched
    "shared_buffers": "256MB",
    "huge_pages": "off",  # they have to be reserved by an administrator
    "effective_cache_size": "1GB",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    # Not POSIX shared memory: containers give it 64 MB, and systemd deletes it when the user who
    # started the server logs out. We use hardly any of it.
    "dynamic_shared_memory_type": "mmap",
    # --- the write-ahead log
    "wal_buffers": "16MB",  # one segment: large batches do not wait for each other's buffers
    # Off: the wheel has no lz4, and pglz costs more of our two cores than it saves of the disk.
    "wal_compression": "off",
    # Checkpoints rarely: each makes the next change of every page write that page to the log whole.
    "checkpoint_timeout": "15min",
    "max_wal_size": "1GB",  # also bounds the time of crash recovery, to some ten seconds
    "min_wal_size": "256MB",  # segments are renamed and used again: cheaper than new ones
    # --- the planner: small statements over indexes on a solid-state disk
    "jit": "off",  # compiling takes longer than our statements
    "random_page_cost": "1.1",
    "max_parallel_workers_per_gather": "0",  # two cores, and the other one is the client's
    "max_parallel_maintenance_workers": "0",
    # --- processes: each is memory and wake-ups
    "max_worker_processes": "2",
    "max_logical_replication_workers": "0",
    "max_wal_senders": "2",  # for pg_basebackup, which takes one or two
    "autovacuum_max_workers": "2",
    # --- vacuum: heads, positions and hot keys are few rows with many dead versions
    "autovacuum_naptime": "15s",
    "autovacuum_vacuum_scale_factor": "0.05",
    "autovacuum_vacuum_cost_limit": "1000",
    # --- what it says: into a file that the keeper keeps short
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",  # routine
    "log_parameter_max_length": "0",  # states and payloads are the user's, not the log's
    "log_parameter_max_length_on_error": "0",
    "cluster_name": "omninode_bridge",
    # --- one language and one clock, whatever the environment says
    "lc_messages": "C",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_SINCE: Final[Mapping[int, Mapping[str, str]]] = {
    18: {
        "io_method": "sync",  # our reads are cached; three more processes would have no work
    },
}


def postgresql_conf(version: int, extra: Mapping[str, str]) -> str:
    """Return the text of `postgresql.conf` for a major `version`, with `extra` settings last."""
    settings = dict(_SETTINGS)
    for since, more in _SINCE.items():
        if version >= since:
            settings |= more
    if sys.platform == "darwin":
        # Its fdatasync leaves data in the disk's own cache.
        settings["wal_sync_method"] = "fsync_writethrough"
    settings |= extra
    lines = (f"{name} = {_quoted(value)}\n" for name, value in settings.items())
    return "# Written at every start. Use ALTER SYSTEM to change a setting.\n" + "".join(lines)


def pg_hba_conf() -> str:
    """Return the text of `pg_hba.conf`: the socket only, and who it is the kernel says."""
    return f"local all {ROLE} peer map=bridge\n"


def pg_ident_conf(client: Account) -> str:
    """Return the text of `pg_ident.conf`: the account that asks for the server, and no other."""
    name = client.name.replace('"', '""')
    return f'bridge "{name}" {ROLE}\n'


def environment() -> dict[str, str]:
    """Return what the server sees of our environment: next to nothing.

    Secrets in it are none of its business, and PG* variables are meant for clients.
    """
    wanted = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
    if "LD_LIBRARY_PATH" in os.environ:
        wanted["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return wanted


def _quoted(value: str) -> str:
    doubled = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{doubled}'"
