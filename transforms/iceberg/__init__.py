"""Iceberg tables of the claimed files: which catalog, which windows are there, and adding the others."""
