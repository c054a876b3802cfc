"""Merging finished models: joint and activation matching, paths between models, controls."""
