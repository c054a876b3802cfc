"""A study: comparisons over several seeds, and the same at several levels."""
