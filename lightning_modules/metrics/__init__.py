"""The metrics of a translated volume, one file each."""
