"""Two windows side by side: what has changed between them, and how sure that is."""
