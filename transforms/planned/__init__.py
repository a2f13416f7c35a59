"""Bytes of many records to columns at once: what is read is planned from the schema, and run by kernels.

A plan reads the records of which the plain reader (`fastavro`, `json`) says the same, value by value and to the last
bit. All others are odd: they are left to the plain reader, one by one, and refused by it alone.
"""
