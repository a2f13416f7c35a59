"""Files as they are moved into a folder."""
