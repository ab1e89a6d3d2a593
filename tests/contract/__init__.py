"""One suite a port, asked of every implementation."""
