"""The page: python app.py [--host H] [--port P] [--runs-dir DIR] [--auth USER:PASSWORD]"""

import argparse
import os
import sys
from pathlib import Path

from medcot.ui import serving

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="0.0.0.0" if serving.on_space() else "127.0.0.1")
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument("--runs-dir", type=Path, default=Path(os.environ.get("MEDCOT_RUNS_DIR", "runs")))
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
