"""The error of bad input: a tool prints it as one line and exits with 1."""


class InputError(ValueError):
    """Something the user gave is wrong; the message names it and says what would be right."""
