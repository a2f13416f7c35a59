"""Messages -> points."""
