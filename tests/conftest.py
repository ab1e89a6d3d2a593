"""Fixtures for all tiers."""

from tests.servers import database, postgres_server, server_folder

__all__ = ["database", "postgres_server", "server_folder"]
