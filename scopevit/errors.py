"""What ends a tool in one line: bad input, with exit code 1, and signals."""

import signal

TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h
LONGEST = 1000  # letters of a line that somebody is to read
INTERRUPTED = 130  # what shells give a process that SIGINT has ended


class InputError(ValueError):
    """Something the user gave is wrong; the message names it and says what would be right."""


class Stopped(BaseException):
    """A signal has ended a training, which goes on with `--resume`.

    No `Exception`: it comes at any time before the first step, and libraries would catch it.

    Attributes:
        code: Exit code of the process: 75, for those who start it again later, or 130 for Ctrl-C.
    """

    def __init__(self, number: int, where: str) -> None:
        super().__init__(f'stopped by {signal.Signals(number).name} {where}')
        self.code = INTERRUPTED if number == signal.SIGINT else TRY_AGAIN


def error_text(error: Exception) -> str:
    """Returns what an error says; of one that a library raised, its type and the first line.

    What was given may be of any length, and stands in the middle of most messages.
    """
    if isinstance(error, InputError):
        text = ' '.join(str(error).split())
        if len(text) <= LONGEST:
            return text
        return f'{text[: LONGEST * 2 // 3]} ... {text[-LONGEST // 4 :]}'
    return f'{type(error).__name__}: {"".join(str(error).strip().splitlines()[:1])}'
