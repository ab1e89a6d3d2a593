"""The ports that the contracts are about."""

from tests.contract.ports import memory_ports, ports, postgres_ports

__all__ = ["memory_ports", "ports", "postgres_ports"]
