"""Which types of columns there are, and what each can be: a coordinate, a weight, a label, or kept."""
