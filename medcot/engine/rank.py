"""One of the processes of a job that has several: `python -m medcot.engine.rank JOB_DIR`, its number in RANK.

The worker of the job starts these on its own host (launcher.py); on further hosts people do, with torchrun.
"""

import atexit
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import NoReturn

from medcot.engine.launcher import WATCHED, Channel
from medcot.engine.outcome import Outcome, explain
from medcot.engine.worker import opened, work


def main() -> int:
    if os.environ.get(WATCHED):
        threading.Thread(target=end_with_the_worker, daemon=True).start()
    job, run = opened(Path(sys.argv[1]))
    channel = Channel(job)
    try:
        from medcot.engine import distributed

        distributed.init()
        outcome = work(job, run, channel)
        if distributed.is_main_process():
            channel.write_outcome(outcome)
        distributed.destroy()
        return 0
    except BaseException as error:  # noqa: BLE001  # the worker turns it into a `failed` event
        traceback.print_exc()
        channel.write_outcome(Outcome(failure=explain(error, evaluating=job is not run)))
        return 1


def end_with_the_worker() -> None:
    """Exit when the worker is gone, which holds the other end of standard input."""
    os.read(sys.stdin.fileno(), 1)  # unbuffered: a buffer's lock, held here, would break the interpreter's shutdown
    os._exit(1)


def end(code: int) -> NoReturn:
    """Exit without interpreter shutdown, where a live gloo thread can abort the process.

    It happens rarely: "terminate called without an active exception", pytorch/pytorch#190489.
    """
    atexit._run_exitfuncs()  # removes temporary folders
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    end(main())
