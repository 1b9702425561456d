"""What of a model's text is drawn, and that nothing else becomes markup."""

import re
from html import unescape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medcot.ui import components as c
from medcot.ui.markup import answer, drawn

ALLOWED = re.compile(r'</?(?:p|ul|li|h5|strong|ol)>|<ol start="\d{1,3}">')


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("It is **gout**.", "<p>It is <strong>gout</strong>.</p>"),
        ("**a** and **b**", "<p><strong>a</strong> and <strong>b</strong></p>"),
        ("## First\nRest", "<h5>First</h5><p>Rest</p>"),
        ("### **Bold** head", "<h5><strong>Bold</strong> head</h5>"),
        ("- one\n- **two**", "<ul><li>one</li><li><strong>two</strong></li></ul>"),
        ("* one\n• two", "<ul><li>one</li><li>two</li></ul>"),
        ("1. one\n2) two", '<ol start="1"><li>one</li><li>two</li></ol>'),
        ("Text\n\n3. three", '<p>Text</p><ol start="3"><li>three</li></ol>'),
        ("two\nlines", "<p>two\nlines</p>"),
        ("a\n\nb", "<p>a\n\nb</p>"),
        ("- خطوة\n- 第二", "<ul><li>خطوة</li><li>第二</li></ul>"),
    ],
)
def test_bold_lists_and_headings_are_drawn(text, html):
    assert drawn(text) == html


@pytest.mark.parametrize(
    "text",
    [
        "2 ** 3 ** 4",
        "**open",
        "****",
        "*emphasis* and _this_",
        "#1 in the list",
        "-5 mmol/l",
        "1.5 mg",
        "[link](http://192.0.2.1/a)",
        "![x](http://192.0.2.1/b.png)",
        "<b>b</b>",
        "&lt;b&gt;",
        "`code`",
        "| a | b |",
        "> quoted",
        "https://192.0.2.1/",
    ],
)
def test_everything_else_stays_as_it_was_written(text):
    shown = drawn(c.text(text))
    assert shown == f"<p>{c.text(text)}</p>"


LINES = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.text(alphabet="*#-+1.) <>&\"'ax\u202e[](!", max_size=40),
        st.sampled_from(["<script>", "**<img src=x>**", "- <a href=x>", "## &lt;", "1. </li></ol>", "**a", "b**"]),
    ),
    max_size=12,
)


@settings(derandomize=True, deadline=None, database=None, max_examples=400)
@given(LINES)
def test_whatever_is_written_only_these_elements_come_of_it_balanced_and_no_word_is_lost(lines):
    text = "\n".join(lines)
    html = drawn(c.text(text))
    plain = ALLOWED.sub("\n", html)
    assert "<" not in plain
    assert ">" not in plain
    opened = []
    for tag in re.findall(r"</?\w+", html):
        if tag.startswith("</"):
            assert opened.pop() == tag[2:]
        else:
            opened.append(tag[1:])
    assert not opened
    words = [re.findall(r"[^\W\d_]+", unescape(part)) for part in (plain, c.text(text))]
    assert "".join(words[0]) == "".join(words[1])


@pytest.mark.parametrize("piece", ["**a ", "**", "** ", "*", "# ", "- ", " ", "1. ", "**a**", "**a \n", "aaaaaaa**"])
def test_a_long_and_hostile_answer_is_drawn_whole(piece):
    """With a pattern that starts anew at each sign it would take hours."""
    text = piece * (400_000 // len(piece))
    words = (re.sub(r"[^a]", "", ALLOWED.sub("", html)) for html in (drawn(text), text))
    assert len(set(words)) == 1


def test_an_empty_answer_shows_its_placeholder():
    assert answer("", "…") == '<p class="mc-soft">…</p>'
