"""Which scheme for how many stragglers."""
