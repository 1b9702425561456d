"""The child process of a push to the Hub: `python -m medcot.adapters.push`, a PushOrder on its input, Pushed or a
Failure on its output.

The token is in this process's environment (or in the Hub login) and in no file, argument, log or answer. One commit; if
it fails, the answer says what the Hub holds then.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from medcot import hub
from medcot.adapters.publish import MANAGED, Published, Pushed, PushedFile, PushOrder, collect
from medcot.errors import BadInput, Failure, Problem, WorkerFailed, first_line
from medcot.hub import CONFIG
from medcot.runs.run import Run

TRIES, FIRST_WAIT = 3, 1.0  # seconds; doubled each time
TRANSIENT = (408, 409, 412, 425, 429, 500, 502, 503, 504)
EMPTY = (".gitattributes", "README.md", ".gitignore", "LICENSE")  # what a repository holds before anything of ours


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository as the Hub has it now; `files` are sizes by path."""

    sha: str
    private: bool
    files: dict[str, int]

    def missing(self, files: list[Published]) -> list[str]:
        """The paths of files that are not there with their size."""
        return [f.path for f in files if self.files.get(f.path) != f.size]


def push(order: PushOrder) -> Pushed:
    """One commit with the run's files. Raises BadInput for a wrong run, name or right, WorkerFailed if it failed."""
    from huggingface_hub import get_token

    run = Run(order.run_dir)
    files = collect(run, order.repo, order.about)
    if not get_token():
        raise BadInput.of("HF_TOKEN", "is not set and nobody is logged in.", "Set it, or log in once: hf auth login")
    if hub.is_offline():
        raise BadInput.of("HF_HUB_OFFLINE", "is set, so nothing can be pushed.", "Unset it.")
    hub.require_hub("--repo")
    return Push(files, order.repo, public=order.public).run(f"LoRA adapter of the run {run.id}")


class Push:
    """Files on their way to a repository, which is made if there is none."""

    def __init__(self, files: list[Published], repo: str, *, public: bool):
        from huggingface_hub import HfApi

        self.files, self.repo, self.public = files, repo, public
        self.url, self.api, self.created = f"{hub.endpoint()}/{repo}", HfApi(), False

    def run(self, message: str) -> Pushed:
        if before := self._look():
            self._require_ours(before)
        else:
            with self._in_words():
                self.api.create_repo(self.repo, private=not self.public)
            self.created, before = True, self._look() or Repository("", not self.public, {})
        commit = self._commit(before, message)
        after = self._look() or Repository("", not self.public, {})
        if missing := after.missing(self.files):
            raise WorkerFailed(
                f"Half pushed: {self.url} has the commit, but not {', '.join(missing)} as they are here. The run is "
                "untouched. Publish again to replace it, or delete the repository."
            )
        kept = [PushedFile.of(file) for file in self.files]
        public, created = not after.private, self.created
        return Pushed(repo=self.repo, url=self.url, commit=commit, public=public, created=created, files=kept)

    def _commit(self, before: Repository, message: str) -> str:
        """Commit, and again if the network or the Hub fails, unless the commit went through after all."""
        import httpx
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete
        from huggingface_hub.errors import HfHubHTTPError

        paths = {f.path for f in self.files}
        stale = [CommitOperationDelete(name) for name in before.files if name in MANAGED and name not in paths]
        reason = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(FIRST_WAIT * 2 ** (attempt - 1))
                if (now := self._look_again()) and now.sha != before.sha and not now.missing(self.files):
                    return now.sha
            operations: list[Any] = [*(CommitOperationAdd(f.path, f.content) for f in self.files), *stale]
            parent = before.sha or None
            try:
                done = self.api.create_commit(self.repo, operations, commit_message=message, parent_commit=parent)
                return str(done.oid)
            except HfHubHTTPError as error:
                if error.response.status_code not in TRANSIENT:
                    raise self._refusal(error.response.status_code, error.server_message) from None
                reason = f"HTTP {error.response.status_code}"
            except (httpx.HTTPError, OSError, RuntimeError) as error:  # RuntimeError: what uploads in threads raise
                reason = type(error.__cause__ or error).__name__
            except ValueError as error:
                raise BadInput.of("README.md", f"is refused by the Hub: {error}") from None
        raise WorkerFailed(f"The push failed {TRIES} times ({reason}). {self._aftermath(before)}")

    def _aftermath(self, before: Repository) -> str:
        """What is on the Hub after a push that failed, in words."""
        if (now := self._look_again()) is None:
            left = f"Whether anything arrived could not be seen; look at {self.url}."
        elif now.sha != before.sha:
            left = f"Half pushed: {self.url} has a new commit, and not all files of this run."
        elif self.created:
            left = f"{self.url} was made for it and is empty; delete it, or publish again to fill it."
        else:
            left = f"{self.url} is as it was before."
        return f"{left} The run is untouched."

    def _look(self) -> Repository | None:
        """The repository; None if this account sees none of that name."""
        from huggingface_hub.errors import RepositoryNotFoundError

        with self._in_words():
            try:
                found: Any = self.api.model_info(self.repo, files_metadata=True, timeout=20)
            except RepositoryNotFoundError:
                return None
            return Repository(found.sha, bool(found.private), {s.rfilename: s.size for s in found.siblings or []})

    def _look_again(self) -> Repository | None:
        with suppress(BadInput, WorkerFailed):
            return self._look()
        return None

    def _require_ours(self, found: Repository) -> None:
        """Raise BadInput for a repository that holds something else, or that others can read already."""
        problems = []
        others = sorted(set(found.files) - set(EMPTY))
        if others and CONFIG not in others:
            what = f"{self.repo} is there and holds no adapter, but {', '.join(others[:3])}."
            problems.append(Problem("--repo", what, "Choose another name."))
        if not found.private and not self.public:
            what = f"{self.repo} is there and public, so everybody could read what is pushed."
            fix, page = "Add --public if that is meant, or choose another name.", "Choose another name, or public."
            problems.append(Problem("--repo", what, fix, page))
        if problems:
            raise BadInput(problems)

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        """Raise BadInput for a refusal of the Hub inside, WorkerFailed if it does not answer."""
        import httpx
        from huggingface_hub.errors import HfHubHTTPError

        try:
            yield
        except HfHubHTTPError as error:
            raise self._refusal(error.response.status_code, error.server_message) from None
        except httpx.HTTPError as error:
            what = f"The Hub stopped answering ({type(error).__name__}); nothing was pushed. Try again."
            raise WorkerFailed(what) from None
        except (ValueError, TypeError, KeyError) as error:  # what the client raises over another program's answer
            what = f"What answers at {hub.endpoint()} is not the Hub ({first_line(error)})."
            raise WorkerFailed(f"{what} {hub.NOT_THE_HUB}") from None

    def _refusal(self, status: int, said: str | None) -> BadInput | WorkerFailed:
        empty = f" {self.url} was made for it and is empty." if self.created else ""
        if status in (401, 403):
            what = f"this token may not write to {self.repo} (HTTP {status}).{empty}"
            return BadInput.of("--repo", what, "Use a token with write access there, or another owner.")
        if status == 400:
            return BadInput.of("--repo", f"the Hub refuses it: {said or 'HTTP 400'}.{empty}", "Fix this.")
        return WorkerFailed(f"The Hub answered HTTP {status}.{empty or ' Nothing was pushed.'} Try again later.")


def main() -> int:
    answer: Pushed | Failure
    try:
        answer = push(PushOrder.model_validate_json(sys.stdin.read()))
    except (BadInput, WorkerFailed) as error:
        answer = Failure.of(error)
    sys.stdout.write("\n" + answer.model_dump_json() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
