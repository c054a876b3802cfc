"""The one error of this package."""

from fedi2i.errors import UserError


class ReportError(UserError):
    """A run folder that cannot be reported: which file, what is wrong, what to do.

    The command line prints its one sentence and exits with code 2; nothing is written.
    """
