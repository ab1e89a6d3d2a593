"""Processes that meet by Kafka."""
