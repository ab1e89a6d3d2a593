"""The store effect: commits."""
