"""How long a judging takes: `PYTHONPATH=. python benchmarks/judge_speed.py [RECORDS] [SECONDS OF A REPLY] [AT ONCE]`.

An evaluation of records with two arms is judged by a scripted judge behind a real server in this process, which takes
its time for each reply. Printed: requests, the most that were under way at once, wall-clock and CPU seconds.
"""

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from medcot import data
from medcot.engine import judge
from medcot.runs import judging
from medcot.runs.store import RunStore
from medcot.settings.judging import judge_order
from medcot.settings.recipes import compose
from tests.fakes import write_run
from tests.judges import Server, serving, write_evaluation


def measure(count: int, seconds: float, at_once: int) -> str:
    settings = compose("starter")
    split = data.load(settings.data)
    once = [*split.held_out, *split.train]
    more = [replace(e, record=e.record + len(once), question=f"{e.question} (Asked again.)") for e in once]
    records = [*once, *more][:count]
    server = Server(seconds=seconds)
    with tempfile.TemporaryDirectory() as folder, serving(server) as url:
        run = write_run(RunStore(Path(folder)), settings, "finished")
        job = write_evaluation(run, records, {"base": [e.answer for e in records], "tuned": ["No."] * count})
        judging.write_order(job, judge_order(url, "judge", None, concurrency=at_once), judging.Given())
        began, used = time.monotonic(), time.process_time()
        judge.judge(run, job, lambda event: None)
        took, used = time.monotonic() - began, time.process_time() - used
    asked = f"{server.asked.total()} requests, {server.most_at_once} at once"
    return f"{count} records: {asked}, {took:.1f} s, of which {used:.1f} s of CPU for both sides"


if __name__ == "__main__":
    given = sys.argv[1:]
    numbers = [float(value) for value in given] + [200, 0.2, 16][len(given) :]
    print(measure(int(numbers[0]), numbers[1], int(numbers[2])))
