"""What an event costs: its answer is the same as Gradio's own, and only what it changes is built."""

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor

import gradio as gr
import pytest
from gradio.state_holder import SessionState

from medcot.ui import thrift
from medcot.ui.thrift import be_thrifty


def page():
    with gr.Blocks() as demo:
        parts = [gr.HTML("a"), gr.Radio(["x"]), gr.State("s"), gr.Button("b"), gr.Tabs()]
        parts[3].click(lambda: None, None, parts)
    return demo, parts


def processed(demo, predictions, state):
    (event,) = demo.fns.values()
    with ThreadPoolExecutor() as aside:  # where a browser test ran before, this thread's event loop is Playwright's
        return aside.submit(asyncio.run, demo.postprocess_data(event, predictions, state)).result()


ANSWERS = {
    "nothing": lambda p: gr.skip(),
    "one": lambda p: {p[0]: "new"},
    "one update": lambda p: {p[1]: gr.update(choices=["y", "z"], value="z")},
    "in another order": lambda p: {p[4]: gr.update(selected="t"), p[2]: "kept", p[0]: "<b>"},
    "all": lambda p: {p[0]: "", p[1]: "x", p[2]: None, p[3]: gr.update(visible=False), p[4]: gr.update(visible=True)},
    "a list": lambda p: ["new", "x", "s", "b", gr.skip()],
}


def plain(part):
    return {k: v for k, v in part.items() if k != "props" or set(v) != {"__type__"}} if isinstance(part, dict) else part


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_and_what_a_session_keeps_are_those_of_gradio(name):
    found = []
    for thrifty in (False, True):
        demo, parts = page()
        if thrifty:
            be_thrifty(demo)
        state = SessionState(demo)
        answer = processed(demo, ANSWERS[name](parts), state)
        kept = [state[parts[2]._id], state[parts[1]._id].choices, state[parts[3]._id].visible]
        # Gradio tells an HTML block that was left alone of properties, of which there are none.
        found.append(([plain(part) for part in answer], kept))
    assert found[0] == found[1]


def test_only_what_changes_is_built(monkeypatch):
    demo, parts = page()
    be_thrifty(demo)
    built, state = [], SessionState(demo)
    made = gr.Button.__init__
    monkeypatch.setattr(gr.Button, "__init__", lambda self, *a, **k: (built.append(k), made(self, *a, **k))[1])
    processed(demo, {parts[0]: "new"}, state)
    assert built == []
    processed(demo, {parts[3]: gr.update(visible=False)}, state)
    assert len(built) == 1


def test_a_browser_keeps_no_progress_for_what_shows_none():
    """Else each piece of an answer is followed by an update of every output of the page."""
    with gr.Blocks() as demo:
        box, button = gr.Textbox(), gr.Button()
        button.click(lambda: "", None, box, show_progress="hidden")
        button.click(lambda: "", None, box)
    be_thrifty(demo)
    assert [event["show_progress_on"] for event in demo.get_config_file()["dependencies"]] == [[], None]


def test_an_answer_with_a_component_that_is_no_output_is_refused_as_ever():
    demo, parts = page()
    be_thrifty(demo)
    with pytest.raises(ValueError, match="not specified as output"):
        processed(demo, {parts[0]: "new", gr.HTML(render=False): "y"}, SessionState(demo))


def test_the_queue_is_awake_while_something_is_done_and_some_time_after_it(monkeypatch):
    demo, _ = page()
    be_thrifty(demo)
    queue, clock = demo._queue, [100.0]
    monkeypatch.setattr(thrift.time, "monotonic", lambda: clock[0])
    queue.active_jobs = [None, None]
    assert queue.sleep_when_free == thrift.RESTING_SECONDS
    queue.active_jobs = [None, [object()]]
    assert queue.sleep_when_free == thrift.EVENT_SECONDS
    queue.active_jobs = [None, None]
    clock[0] += thrift.AWAKE_SECONDS - 1
    assert queue.sleep_when_free == thrift.EVENT_SECONDS
    clock[0] += 2
    assert queue.sleep_when_free == thrift.RESTING_SECONDS


def test_pages_are_built_a_few_at_a_time_and_a_slow_reader_holds_nobody_up():
    at_once, most = 0, 0

    async def visit():
        slow = asyncio.Event()

        async def build(scope, receive, send):
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0.01)
            at_once -= 1
            await send({"type": "http.response.start"})
            await send({"type": "http.response.body"})

        async def send_to(number, message):
            if number < 4 and message["type"] == "http.response.body":
                await slow.wait()

        turns = thrift.InTurn(build)
        page = {"type": "http", "path": "/"}
        readers = [asyncio.create_task(turns(page, None, functools.partial(send_to, number))) for number in range(12)]
        await asyncio.wait(readers[4:], timeout=30)
        done = [reader.done() for reader in readers]
        slow.set()
        await asyncio.gather(*readers)
        return done

    with ThreadPoolExecutor() as aside:
        done = aside.submit(asyncio.run, visit()).result()
    assert done == [False] * 4 + [True] * 8
    assert most == thrift.PAGES_AT_ONCE


def test_the_turn_of_a_page_that_fails_is_given_on():
    async def fail(scope, receive, send):
        raise OSError("gone")

    async def visit():
        turns = thrift.InTurn(fail)
        for _ in range(thrift.PAGES_AT_ONCE + 1):
            with pytest.raises(OSError, match="gone"):
                await asyncio.wait_for(turns({"type": "http", "path": "/config"}, None, None), 10)

    with ThreadPoolExecutor() as aside:
        aside.submit(asyncio.run, visit()).result()
