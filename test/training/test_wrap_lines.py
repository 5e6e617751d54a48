# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Reports are wrapped without a change to what Markdown makes of them."""

from hypothesis import given
from hypothesis import strategies as st
from occle_train.experiments.wrap_lines import wrap_lines

WORDS = st.lists(
    st.sampled_from(["-", "#", "1.", "|", "*", "word", "`code`", "[link](page.md)", "x" * 30]), min_size=1, max_size=40
)


def test_only_paragraphs_and_items_are_wrapped():
    code = "```\n" + "c" * 50 + " d\n```"
    table = f"| {'cell ' * 12}|\n|---|"
    text = (
        f"# {'title ' * 10}\n\n{'word ' * 9}end\n\n- {'item ' * 9}end\n- short\n\n{table}\n\n{code}\n\n    {'indented ' * 6}code\n"
    )
    assert wrap_lines(text, 24) == (
        f"# {'title ' * 10}\n\n" + "word word word word word\nword word word word end\n\n"
        "- item item item item\n  item item item item\n  item end\n- short\n\n" + table + "\n\n" + code + "\n\n"
        "    " + "indented " * 6 + "code\n"
    )


@given(WORDS)
def test_no_word_is_lost_and_no_line_becomes_another_block(words):
    text = "start " + " ".join(words)
    wrapped = wrap_lines(text, 20)
    assert wrapped.split() == text.split()
    starts = [line.split()[0] for line in wrapped.split("\n")[1:]]
    assert not {"-", "#", "1.", "|", "*"} & set(starts)
    long = [line.split() for line in wrapped.split("\n") if len(line) > 20]
    assert all(set(line[1:]) <= {"-", "#", "1.", "|", "*"} for line in long), "only one word and what must stay with it"


def test_short_lines_stay():
    text = "one line\nanother line\n\n- item\n  rest"
    assert wrap_lines(text, 40) == text
