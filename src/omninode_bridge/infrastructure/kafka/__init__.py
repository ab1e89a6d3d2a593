"""Apache Kafka as the bus: its topics, the form of messages, and clients that never hold us up.

Needs the extra `kafka` (confluent-kafka). Rule 1: every blocking call of the client library is made
on a thread of its own.
"""
