"""Ids of jobs: they sort by time, cannot meet, and are read again as names for people."""

import re
import secrets
from datetime import UTC, datetime
from pathlib import Path

_FORM = re.compile(r"(?P<stamp>\d{8}-\d{6})-\d{3}(?:-(?P<slug>.+))?-(?P<tail>[0-9a-f]{4})")


def new_id(name: str = "") -> str:
    """An id of the time to the millisecond, the name's letters and digits, and four random characters."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    return "-".join(filter(None, (stamp, slug, secrets.token_hex(2))))


def when(job_id: str) -> str:
    """When a job was made, in this machine's time: `30 Nov 00:28`. Empty for an id of another form."""
    found = _FORM.fullmatch(job_id)
    try:
        made = datetime.strptime(found["stamp"] if found else "", "%Y%m%d-%H%M%S")
    except ValueError:
        return ""
    here = made.replace(tzinfo=UTC).astimezone()
    year = "" if here.year == datetime.now().astimezone().year else f" {here.year}"
    return f"{here.day} {here:%b}{year} {here:%H:%M}"


def name_of(job_id: str) -> str:
    """A name for a job that nobody has named: `Starter, 30 Nov 00:28`; an id of another form as it is."""
    if not (made := when(job_id)):
        return job_id
    found = _FORM.fullmatch(job_id)
    slug = (found and found["slug"]) or "Run"
    return f"{slug[0].upper()}{slug[1:]}, {made}".replace("-", " ")


def title_of(job_id: str, given: str | None = None) -> str:
    """What lists call a job: its given name or `name_of`, with the end of its id, which tells it from its namesakes."""
    found, name = _FORM.fullmatch(job_id), given or name_of(job_id)
    return f"{name} · {found['tail']}" if found and name != job_id else name


def has_plain_name(folder: Path) -> bool:
    """Whether a folder is called as a job's can be: letters, digits and a few marks, none of them a page's markup."""
    return re.fullmatch(r"\w[\w .,+()-]*", folder.name) is not None
