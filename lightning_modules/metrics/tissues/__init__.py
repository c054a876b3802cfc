"""Errors inside single tissues of a CT."""
