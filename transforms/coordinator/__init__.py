"""Reports -> decisions -> summaries."""
