"""What a participant takes away at its own site: what nothing uses any more, and one patient."""
