"""What preparation may change of a scan before it is cut, recorded and undone."""
