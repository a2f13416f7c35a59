"""Which points stay, and with which weights."""
