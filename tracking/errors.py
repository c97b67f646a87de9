"""The error that is the user's to mend, and the one that is none."""


class BadInput(ValueError):
    """A user's mistake, told in one line.

    The line says what is wrong, where, and what would be right. The command line prints it
    and exits with 2.
    """


class Postponed(BaseException):
    """Raised into an analysis that is to be left for later; no failure, so nothing swallows it."""
