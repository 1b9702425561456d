"""What stands above both panels alike before any token: an emergency, and a warning of what could identify somebody."""

from medcot import safety
from medcot.ui import components as c


def emergency(question: str) -> str:
    """The notice that a question brings; empty where it brings none."""
    found = safety.emergency(question)
    if found is None:
        return ""
    words = "".join(f"<p>{c.text(line)}</p>" for line in found.words)
    kind, role = ("now", "alert") if found.urgency == "now" else ("if-real", "note")
    return (
        f'<section class="mc-emergency mc-{kind}" role="{role}"><strong>{c.text(found.headline)}</strong>{words}'
        f'<p class="mc-sources">{c.text(found.sources)}</p></section>'
    )


def identifiers(question: str, stored: bool) -> str:
    """What in the question could tell who somebody is; empty where nothing is found."""
    found = safety.identifiers(question)
    if not found:
        return ""
    items = "".join(f"<li>{c.text(i.kind)}: <strong>{c.text(i.text)}</strong></li>" for i in found)
    kept = " The blinded comparison is on: what you judge is stored." if stored else ""
    return (
        '<div class="mc-identifiers" role="alert"><strong>Not sent: this could identify a person</strong>'
        f"<ul>{items}</ul><p>Take it out. If it names nobody, press the button again to send it as it is.{kept}</p>"
        "</div>"
    )
