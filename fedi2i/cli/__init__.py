"""The command ``fedi2i``, a file per group. It may import every package; none imports it."""
