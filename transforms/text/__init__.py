"""Text as people write it: encodings, delimiters, quotes, numbers; free of what the cells are for."""
