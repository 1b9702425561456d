"""Who asks waits in one line, first come, first served; who leaves it makes room for all behind."""

import threading
from dataclasses import dataclass, field


@dataclass(eq=False)
class Ticket:
    """A question under way, by which it is stopped."""

    stopped: threading.Event = field(default_factory=threading.Event)
    request: str = ""  # its id on the pipe, once it is there


class Line:
    def __init__(self) -> None:
        self._tickets: list[Ticket] = []
        self._moved = threading.Condition()

    def join(self, ticket: Ticket) -> None:
        with self._moved:
            self._tickets.append(ticket)

    def leave(self, ticket: Ticket) -> None:
        """From any place, any number of times."""
        with self._moved:
            if ticket in self._tickets:
                self._tickets.remove(ticket)
                self._moved.notify_all()

    def ahead(self, ticket: Ticket, wait: float = 0.0) -> int | None:
        """How many are ahead; None where this ticket has left. Waits for the line to move where somebody is."""
        with self._moved:
            if wait and self._place(ticket):
                self._moved.wait(wait)
            return self._place(ticket)

    def _place(self, ticket: Ticket) -> int | None:
        return self._tickets.index(ticket) if ticket in self._tickets else None
