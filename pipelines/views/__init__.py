"""What people look at: the report page, the live page and its metrics, and the commands that make them."""
