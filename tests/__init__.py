"""The tests, by tier: see `docs/` and each folder."""
