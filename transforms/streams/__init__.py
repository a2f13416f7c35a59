"""Sources with addressable parts, which every shard reads for itself, and what their messages hold."""
