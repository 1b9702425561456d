"""Five visitors at once, over HTTP, on a real worker with a tiny model."""

import threading

import pytest

from benchmarks.visitor import Visitor
from medcot.workers import protocol as m
from medcot.workers.client import ServiceClient
from tests.browser.conftest import PATIENCE, wait_until

pytestmark = pytest.mark.slow
HELD = "Hold the line."
QUESTIONS = [
    f"Case {i}: what suggests {what}?" for i, what in enumerate(("gout", "asthma", "croup", "sepsis", "angina"))
]


class Held(ServiceClient):
    """The answer to one question is not heard to its end before it is cancelled, however quick the machine is."""

    cancelled = threading.Event()

    def request(self, message):
        for reply in super().request(message):
            if isinstance(reply, m.Answered) and message.question == HELD:
                self.cancelled.wait(PATIENCE / 1000)
            yield reply

    def cancel(self, request_id):
        super().cancel(request_id)
        self.cancelled.set()


def test_five_visitors_are_answered_whole_in_order_and_each_with_their_own(serve, tuned):
    folder = tuned.path.parent
    url = serve(folder, Held(folder.resolve()))
    visitors = [Visitor(url, tuned.id, 24) for _ in QUESTIONS]
    alone = []
    for question in QUESTIONS:  # each by a visitor of its own: a second question would follow the first
        visitor = Visitor(url, tuned.id, 24)
        alone.append(visitor.ask(question))
        visitor.close()
    assert all(not a.error and a.answers != ("", "") for a in alone), alone
    assert len({a.answers for a in alone}) == len(QUESTIONS), "the answers must tell who was asked"

    asked = {}
    holder = Visitor(url, tuned.id, 1500, temperature=1.0)  # by chance: what goes round in circles is ended early
    threads = [threading.Thread(target=holder.ask, args=(HELD,), daemon=True)]
    threads[0].start()
    wait_until(lambda: holder.latest.startswith("Answering"))
    for place, (visitor, question) in enumerate(zip(visitors, QUESTIONS, strict=True), start=1):

        def ask(visitor=visitor, question=question):
            asked[question] = visitor.ask(question)

        threads.append(threading.Thread(target=ask, daemon=True))
        threads[-1].start()
        said = "Waiting: yours is next." if place == 1 else f"Waiting: {place} questions are ahead of yours."
        wait_until(lambda visitor=visitor, said=said: visitor.latest == said)
    holder.close()
    for thread in threads:
        thread.join(120)
    found = [asked[question] for question in QUESTIONS]
    assert [(f.answers, f.endings[0].partition(" ·")[0]) for f in found] == [
        (a.answers, a.endings[0].partition(" ·")[0]) for a in alone
    ]
    ends = [f.ended for f in found]
    assert ends == sorted(ends), "first come, first served"
    for visitor in visitors:
        visitor.close()
