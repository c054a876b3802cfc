"""Errors a person can act on: which file or key, what is wrong, what to do."""


class UserError(Exception):
    """A mistake in what the user gave us.

    Command-line programs print its one sentence and exit with code 2; nothing is half-written.
    """


class ConfigError(UserError):
    """A configuration key or value that cannot be used."""


class DataError(UserError):
    """A data file, folder or manifest that cannot be used."""
