"""One of the processes of a job that has several: `torchrun ... -m medcot.engine.rank JOB_DIR`.

The worker of the job starts these on its own host (together.py); on further hosts people do.
"""

import atexit
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import NoReturn

from medcot.engine.together import WATCHED, Outcome, Together
from medcot.engine.worker import explain, opened, work


def main() -> int:
    if os.environ.get(WATCHED):
        threading.Thread(target=end_with_the_worker, daemon=True).start()
    job, run = opened(Path(sys.argv[1]))
    together = Together(job)
    try:
        from medcot.engine import world
        from medcot.engine.memory import peak_memory_gib

        world.join()
        stopped_at = work(job, run, together)
        if world.is_first():
            together.say(Outcome(stopped_at=stopped_at, peak_memory_gib=peak_memory_gib()))
        world.leave()
        return 0
    except BaseException as error:  # noqa: BLE001  # the worker turns it into a `failed` event
        traceback.print_exc()
        together.say(failure(error, evaluating=job is not run))
        return 1


def failure(error: BaseException, *, evaluating: bool) -> Outcome:
    message, hint, bad_input = explain(error, evaluating=evaluating)
    return Outcome(error=message, hint=hint, bad_input=bad_input)


def end_with_the_worker() -> None:
    """The worker holds the other end of the standard input for as long as it lives."""
    os.read(sys.stdin.fileno(), 1)  # unbuffered: a buffer's lock, held here, would break the interpreter's own end
    os._exit(1)


def end(code: int) -> NoReturn:
    """Past the interpreter's own end, where a thread of gloo that still lives aborts a process that has done its work.

    It happens rarely: "terminate called without an active exception", pytorch/pytorch#190489.
    """
    atexit._run_exitfuncs()  # temporary folders go, as at any end
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    end(main())
