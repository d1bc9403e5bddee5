"""What the command line tools tell instead of a traceback."""


class UsageError(Exception):
    """What the user asked for cannot be done; the message is the one line to show."""
