"""The generators that a configuration can name, one file each."""
