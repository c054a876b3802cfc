"""What several training runs of every arm say together."""
