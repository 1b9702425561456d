"""The child process of a push to the Hub: `python -m medcot.pushing`, a request on its input, an answer on its output.

The token is in this process's environment (or in the Hub login) and in no file, argument, log or answer. One commit;
where it does not go through, what the Hub holds then is looked up and said.
"""

import functools
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medcot import hub
from medcot.errors import BadInput, Problem, WorkerFailed
from medcot.publishing import MANAGED, Published, collect
from medcot.runs import Run
from medcot.safe_adapter import CONFIG

TRIES, FIRST_WAIT = 3, 1.0  # seconds; doubled each time
TRANSIENT = (408, 409, 412, 425, 429, 500, 502, 503, 504)
Sizes = dict[str, int]


def push(files: list[Published], repo: str, *, public: bool, message: str) -> dict[str, Any]:
    """One commit with these files. Raises BadInput for a wrong name or missing right, WorkerFailed where it failed."""
    from huggingface_hub import HfApi, get_token

    if not get_token():
        raise BadInput(
            Problem("HF_TOKEN", "is not set and nobody is logged in.", "Set it, or log in once: hf auth login")
        )
    if hub.is_offline():
        raise BadInput(Problem("HF_HUB_OFFLINE", "is set, so nothing can be pushed.", "Unset it."))
    hub.require_hub("--repo")
    api = HfApi()
    before = _look(api, repo)
    created = before is None
    if before is None:
        _in_words(repo, lambda: api.create_repo(repo, private=not public))
        before = _look(api, repo)
    else:
        _require_ours(repo, before, public=public)
    commit = _commit(api, files, repo, before or {}, message, created)
    after = _look(api, repo) or {}
    missing = [f.path for f in files if after["files"].get(f.path) != f.size] if after else [f.path for f in files]
    if missing:
        raise WorkerFailed(
            f"Half pushed: {_url(repo)} has the commit, but not {', '.join(missing)} as they are here. The run is "
            "untouched. Publish again to replace it, or delete the repository."
        )
    return {
        "repo": repo,
        "url": _url(repo),
        "commit": commit,
        "public": not after["private"],
        "created": created,
        "files": [{"path": f.path, "bytes": f.size} for f in files],
    }


def _commit(api: Any, files: list[Published], repo: str, before: dict[str, Any], message: str, created: bool) -> str:
    """Commit, and again where the network or the Hub fails, unless a look shows that it went through after all."""
    import httpx
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.errors import HfHubHTTPError

    paths = {f.path for f in files}
    stale = [name for name in before.get("files", {}) if name in MANAGED and name not in paths]
    reason = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(FIRST_WAIT * 2 ** (attempt - 1))
            if (now := _look_again(api, repo)) and now["sha"] != before.get("sha") and _holds(now, files):
                return str(now["sha"])
        operations = [CommitOperationAdd(f.path, f.content) for f in files]
        try:
            done = api.create_commit(
                repo,
                [*operations, *(CommitOperationDelete(name) for name in stale)],
                commit_message=message,
                parent_commit=before.get("sha"),
            )
            return str(done.oid)
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status not in TRANSIENT:
                raise _refusal(repo, status, error.server_message, created) from None
            reason = f"HTTP {status}"
        except (httpx.HTTPError, OSError, RuntimeError) as error:  # RuntimeError: what uploads in threads raise
            reason = type(error.__cause__ or error).__name__
        except ValueError as error:
            raise BadInput(Problem("README.md", f"is refused by the Hub: {error}")) from None
    raise WorkerFailed(f"The push failed {TRIES} times ({reason}). {_aftermath(api, repo, before, created)}")


def _aftermath(api: Any, repo: str, before: dict[str, Any], created: bool) -> str:
    """What is on the Hub after a push that failed, in words."""
    now = _look_again(api, repo)
    if now is None:
        left = f"Whether anything arrived could not be seen; look at {_url(repo)}."
    elif now["sha"] != before.get("sha"):
        left = f"Half pushed: {_url(repo)} has a new commit, and not all files of this run."
    elif created:
        left = f"{_url(repo)} was made for it and is empty; delete it, or publish again to fill it."
    else:
        left = f"{_url(repo)} is as it was before."
    return f"{left} The run is untouched."


def _look(api: Any, repo: str) -> dict[str, Any] | None:
    """{"sha", "private", "files": sizes by path} of a repository; None where there is none for this account."""
    from huggingface_hub.errors import RepositoryNotFoundError

    asked = functools.partial(api.model_info, repo, files_metadata=True, timeout=20)
    try:
        info = _in_words(repo, asked, but=RepositoryNotFoundError)
    except RepositoryNotFoundError:
        return None
    sizes: Sizes = {s.rfilename: s.size for s in info.siblings or []}
    return {"sha": info.sha, "private": bool(info.private), "files": sizes}


def _look_again(api: Any, repo: str) -> dict[str, Any] | None:
    try:
        return _look(api, repo)
    except (BadInput, WorkerFailed):
        return None


def _holds(now: dict[str, Any], files: list[Published]) -> bool:
    return all(now["files"].get(f.path) == f.size for f in files)


def _require_ours(repo: str, found: dict[str, Any], *, public: bool) -> None:
    """Raises BadInput for a repository that holds something else, or that others can read already."""
    problems = []
    others = [n for n in found["files"] if n not in (".gitattributes", "README.md", ".gitignore", "LICENSE")]
    if others and CONFIG not in others:
        what = f"{repo} is there and holds no adapter, but {', '.join(sorted(others)[:3])}."
        problems.append(Problem("--repo", what, "Choose another name."))
    if not found["private"] and not public:
        what = f"{repo} is there and public, so everybody could read what is pushed."
        problems.append(Problem("--repo", what, "Add --public if that is meant, or choose another name."))
    if problems:
        raise BadInput(problems)


def _in_words(repo: str, call: Any, but: type[Exception] | None = None) -> Any:
    """The call's value. Raises BadInput for a refusal of the Hub, WorkerFailed where it does not answer."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return call()
    except HfHubHTTPError as error:
        if but and isinstance(error, but):
            raise
        raise _refusal(repo, error.response.status_code, error.server_message, created=False) from None
    except httpx.HTTPError as error:
        what = f"The Hub stopped answering ({type(error).__name__}); nothing was pushed. Try again."
        raise WorkerFailed(what) from None


def _refusal(repo: str, status: int, said: str | None, created: bool) -> BadInput | WorkerFailed:
    empty = f" {_url(repo)} was made for it and is empty." if created else ""
    if status in (401, 403):
        what = f"this token may not write to {repo} (HTTP {status}).{empty}"
        return BadInput(Problem("--repo", what, "Use a token with write access there, or another owner."))
    if status == 400:
        return BadInput(Problem("--repo", f"the Hub refuses it: {said or 'HTTP 400'}.{empty}", "Mend this."))
    return WorkerFailed(f"The Hub answered HTTP {status}.{empty or ' Nothing was pushed.'} Try again later.")


def _url(repo: str) -> str:
    return f"{hub.endpoint()}/{repo}"


def main() -> int:
    asked = json.load(sys.stdin)
    run = Run(Path(asked["run_dir"]))
    try:
        files = collect(run, asked["repo"], asked["about"])
        answer = push(files, asked["repo"], public=asked["public"], message=f"LoRA adapter of the run {run.id}")
    except BadInput as bad:
        answer = {"kind": "input", "problems": [asdict(p) for p in bad.problems]}
    except WorkerFailed as failed:
        answer = {"kind": "failed", "message": str(failed)}
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
