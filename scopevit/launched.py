"""What a process of several and the launcher that started it, tools/launch.py, tell one another."""

import os
from pathlib import Path

# File for the exit code of a training that a signal has ended: torchrun's own is 1 for any.
STOP_FILE = 'SCOPEVIT_STOP_FILE'
AGENT = 'TORCHELASTIC_RUN_ID'  # of torchrun, in the processes that it starts
RESTARTS = 'TORCHELASTIC_RESTART_COUNT'


def note_stop(code: int) -> None:
    """Tells the launcher, if there is one, that a signal has ended this training."""
    path = os.environ.get(STOP_FILE)
    if path:
        Path(path).write_text(str(code))


def noted_stop() -> int:
    """Returns the exit code with which processes have stopped, 0 if none did."""
    path = Path(os.environ.get(STOP_FILE, ''))
    return int(path.read_text() or 0) if path.is_file() else 0


def is_restarted() -> bool:
    """Whether the launcher has started this process again, after one of the group had died."""
    return int(os.environ.get(RESTARTS, 0)) > 0


def launch_time() -> float:
    """Returns the time, since the epoch, at which the launcher began; 0 if it is another one."""
    path = os.environ.get(STOP_FILE)
    return Path(path).parent.stat().st_ctime if path else 0.0
