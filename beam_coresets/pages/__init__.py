"""What people look at: the report page, the live page and its metrics, of what runs have written."""
