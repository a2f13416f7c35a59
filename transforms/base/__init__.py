"""What all transforms share: coders, keys, placement, dead letters."""
