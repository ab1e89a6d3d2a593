"""Tests of single modules: no socket, no sleep."""
