"""The orchestrator: decides what to ask, waits, retries, compensates."""
