"""One file per command of ``python -m partitions``; each has ``add_to`` and ``run``."""
