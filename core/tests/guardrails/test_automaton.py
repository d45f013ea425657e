from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inferflux_core.guardrails.automaton import Automaton

letters = st.text(alphabet="abc", min_size=1, max_size=6)


@given(words=st.lists(letters, min_size=1, max_size=8), text=st.text(alphabet="abcd", max_size=40))
def test_every_state_says_what_a_naive_search_says(words: list[str], text: str) -> None:
    automaton = Automaton(words)
    beginnings = {word[:length] for word in words for length in range(1, len(word) + 1)}
    state = 0
    for end in range(1, len(text) + 1):
        state = automaton.step(state, text[end - 1])
        endings = [text[start:end] for start in range(end)]
        assert bool(automaton.accepts[state]) == any(ending in words for ending in endings)
        assert automaton.depth[state] == max(
            (len(ending) for ending in endings if ending in beginnings), default=0
        )


def test_without_words_nothing_is_found() -> None:
    automaton = Automaton([])
    state = automaton.step(0, "a")
    assert (state, automaton.depth[state], automaton.accepts[state]) == (0, 0, 0)
