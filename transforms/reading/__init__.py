"""Files and rows -> blocks."""
