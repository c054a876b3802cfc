"""The one error of this package."""


class ReportError(Exception):
    """A run folder that cannot be reported: which file, what is wrong, what to do.

    The command line prints its one sentence and exits with code 2; nothing is written.
    """
