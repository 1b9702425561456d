"""Serve the page: Train, Evaluate and Chat over a folder of runs."""

import argparse
import os
import sys
from pathlib import Path

from medcot.prompts.contract import STYLES
from medcot.ui import serve

HOST = "who may reach it: this machine alone by default; 0.0.0.0 is everybody, and demands --auth"
RUNS_DIR = "where runs are kept; MEDCOT_RUNS_DIR, else runs"
AUTH = (
    "demanded of everyone; needed beyond this machine; MEDCOT_AUTH or MEDCOT_AUTH_FILE keep it out of the process list"
)
NO_TOKEN = "let in whoever reaches the page, without the token in its address; MEDCOT_TOKEN chooses the token instead"
ALLOW_HOST = "a name that the page answers to, as behind a proxy; may be repeated; MEDCOT_ALLOW_HOST likewise"

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    option = parser.add_argument
    option("--host", default="0.0.0.0" if serve.on_space() else "127.0.0.1", help=HOST)
    option("--port", type=int, default=7860, help="7860 by default")
    option("--runs-dir", type=Path, default=Path(os.environ.get("MEDCOT_RUNS_DIR", "runs")), help=RUNS_DIR)
    option("--auth", metavar="USER:PASSWORD", default=os.environ.get("MEDCOT_AUTH"), help=AUTH)
    option("--no-token", action="store_false", dest="token", help=NO_TOKEN)
    option("--allow-host", metavar="NAME", action="append", default=[], dest="allow_hosts", help=ALLOW_HOST)
    option("--endpoint", metavar="URL", help="an OpenAI-compatible server that Chat may ask too")
    option("--base-model", metavar="NAME", help="the base's name on that server")
    option("--tuned-model", metavar="NAME", help="the adapter's name on that server")
    option("--style", choices=tuple(STYLES), default="chat", help="how that server is asked")
    sys.exit(serve.serve(serve.Options(**vars(parser.parse_args()))))
