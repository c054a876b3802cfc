"""Readers: a data set in its own layout becomes one manifest per site."""
