"""The one error that is the user's to mend: everything else is ours, and shows its traceback."""


class BadInput(ValueError):
    """A user's mistake, told in one line.

    The line says what is wrong, where, and what would be right. The command line prints it
    and exits with 2.
    """
