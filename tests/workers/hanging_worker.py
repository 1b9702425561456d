"""`python -m tests.workers.hanging_worker MODE ...`: a service worker that hangs at the moment that MODE names.

"loads": over a load. "words": before an answer's first words. "answer": after some of both arms. "file": after some of
tuned. "read": it reads nothing at all. "late": it does not hang; it is slow over each request, and says so now and
then.
"""

import json
import os
import sys
import time


def say(**reply: object) -> None:
    print(json.dumps(reply), flush=True)  # noqa: T201


def main(mode: str) -> None:
    if mode == "read":
        time.sleep(600)
    for line in sys.stdin:
        request = json.loads(line)
        about = {"id": request["id"]}
        if mode == "loads" and request["type"] == "connect":
            time.sleep(600)
        if request["type"] == "ask":
            if mode in ("answer", "file"):
                tokens = {"base": int(mode == "answer"), "tuned": 1}
                say(**about, type="piece", base="", tuned="t", tokens_per_second=1.0, tokens=tokens)
            time.sleep(600)
        for _ in range(8 if mode == "late" else 0):
            time.sleep(0.6)
            say(**about, type="loading", stage="slow")
        if request["type"] != "cancel":
            say(**about, type="result", value={"pid": os.getpid()})


if __name__ == "__main__":
    main(sys.argv[1])
