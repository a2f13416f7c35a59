"""Demonstrations: a batch with two shards that never answer, and a stream with one that is held."""
