"""Starts a tool in several processes, and ends as they do.

python tools/launch.py [ARGUMENTS OF torchrun] TOOL [ARGUMENTS]
"""

import os
import signal
import sys
import tempfile
from pathlib import Path

from torch.distributed import run
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from scopevit.errors import INTERRUPTED, TRY_AGAIN
from scopevit.launched import STOP_FILE, noted_stop

SECONDS = '600'  # for a step and a checkpoint, until processes that are to end are killed


def main(argv: list[str]) -> int:
    """Returns the exit code of the processes, 1 unless all end with 0 or a signal has ended them.

    SIGUSR1 ends them as SIGTERM does, which torchrun passes on.
    """
    os.environ.setdefault('TORCH_ELASTIC_SHUTDOWN_TIMEOUT', SECONDS)
    # Processes that are started again would read the addresses of those before in a store that
    # they share with them (seen with torch 2.14).
    os.environ.setdefault('TORCH_DISABLE_SHARE_RDZV_TCP_STORE', '1')
    signal.signal(signal.SIGUSR1, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with tempfile.TemporaryDirectory() as folder:
        os.environ[STOP_FILE] = str(Path(folder, 'code'))
        try:
            run.main(argv)
        except SignalException as error:
            return noted_stop() or (INTERRUPTED if error.sigval == signal.SIGINT else TRY_AGAIN)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            code = noted_stop()
            if not code:
                print(f'process {rank} ended with exit code {failure.exitcode}', file=sys.stderr)
            return code or 1
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
