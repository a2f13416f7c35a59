"""Kafka, read natively, and Pub/Sub."""
