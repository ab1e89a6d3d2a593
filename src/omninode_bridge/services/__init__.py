"""Stores (each with its SQL beside it) and loops. No service imports another."""
