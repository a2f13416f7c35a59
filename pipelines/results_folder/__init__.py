"""Output folders: what earlier runs have written."""
