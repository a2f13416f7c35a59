"""Windows, readers' progress, partial reports, and when to decide."""
