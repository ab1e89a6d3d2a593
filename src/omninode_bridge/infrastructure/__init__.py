"""The world: PostgreSQL, the event buses, codecs and contracts."""
