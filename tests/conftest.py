"""Fixtures for all tiers."""

from tests.bridges import database_url, migrated_template
from tests.servers import database, postgres_server, server_folder

__all__ = ["database", "database_url", "migrated_template", "postgres_server", "server_folder"]
