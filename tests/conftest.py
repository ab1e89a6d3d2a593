"""Fixtures for all tiers, and how thoroughly the property tests look."""

import os
import signal

from hypothesis import settings

from tests.bridges import database_url, migrated_template
from tests.kafka_servers import kafka_server
from tests.kafka_users import kafka_place
from tests.poolers import pooler
from tests.redis_servers import redis_server
from tests.servers import database, postgres_server, server_folder

# No deadline: on a busy machine the first example may take long, and that is nobody's fault. CI
# looks at the same examples each time: what it says is about the change, and people try new ones.
settings.register_profile(
    "ours", max_examples=60, deadline=None, derandomize="CI" in os.environ, print_blob=True
)
settings.load_profile("ours")

# A script that starts the tests in the background has them ignore SIGINT, and with them all that
# they start: what Ctrl-C does could not be seen.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

__all__ = [
    "database",
    "database_url",
    "kafka_place",
    "kafka_server",
    "migrated_template",
    "pooler",
    "postgres_server",
    "redis_server",
    "server_folder",
]
