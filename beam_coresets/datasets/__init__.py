"""Seeded data for tests, benchmarks and demonstrations."""
