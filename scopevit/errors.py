"""The error of bad input: a tool prints it as one line and exits with 1."""


class InputError(ValueError):
    """Something the user gave is wrong; the message names it and says what would be right."""


def error_text(error: Exception) -> str:
    """Returns what an error says; of one that a library raised, its type and the first line."""
    if isinstance(error, InputError):
        return ' '.join(str(error).split())
    return f'{type(error).__name__}: {"".join(str(error).strip().splitlines()[:1])}'
