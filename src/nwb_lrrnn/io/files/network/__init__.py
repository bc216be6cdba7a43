"""Files of a network as bytes: where they lie, ranges of them, what is kept of them in memory and on disk."""
