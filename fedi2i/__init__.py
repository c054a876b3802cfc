"""What every package of FedI2I may import: errors, files, digests, typed configuration, names."""

__version__ = "0.3.0"
