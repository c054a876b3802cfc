"""What a data protection officer fills in, begun from a run's own settings."""
