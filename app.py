"""Serve the page: Train, Evaluate and Chat over a folder of runs."""

import argparse
import os
import sys
from pathlib import Path

from medcot.ui import serving

HOST_HELP = "who may reach it: this machine alone by default; 0.0.0.0 is everybody, and demands --auth"

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="0.0.0.0" if serving.on_space() else "127.0.0.1", help=HOST_HELP)
    parser.add_argument("--port", type=int, default=7860, help="7860 by default")
    parser.add_argument(
        "--runs-dir",
        type=Path,
        default=Path(os.environ.get("MEDCOT_RUNS_DIR", "runs")),
        help="where runs are kept; MEDCOT_RUNS_DIR, else runs",
    )
    parser.add_argument(
        "--auth",
        metavar="USER:PASSWORD",
        default=os.environ.get("MEDCOT_AUTH"),
        help="demanded of everyone; needed beyond this machine; MEDCOT_AUTH keeps it out of the process list",
    )
    parser.add_argument("--endpoint", metavar="URL", help="an OpenAI-compatible server that Chat may ask too")
    parser.add_argument("--base-model", metavar="NAME", help="the base's name on that server")
    parser.add_argument("--tuned-model", metavar="NAME", help="the adapter's name on that server")
    parser.add_argument("--style", choices=("chat", "plain"), default="chat", help="how that server is asked")
    sys.exit(serving.serve(**vars(parser.parse_args())))
