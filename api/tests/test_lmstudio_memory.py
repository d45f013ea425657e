from __future__ import annotations

import pytest

from inferflux_api.dialects.lmstudio.memory import ConversationMemory
from inferflux_core.auth import Principal
from inferflux_core.errors import NotFoundError

ALICE = Principal("alice", frozenset({"generate"}), "acme", "api_keys")
MESSAGES = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_conversation_is_recalled_by_the_id_of_its_answer() -> None:
    memory = ConversationMemory()
    first, second = memory.keep(ALICE, MESSAGES), memory.keep(ALICE, MESSAGES[:1])

    assert first.startswith("resp_")
    assert memory.recall(ALICE, first) == MESSAGES
    assert memory.recall(ALICE, second) == MESSAGES[:1]


@pytest.mark.parametrize(
    "stranger",
    [
        Principal("bob", ALICE.scopes, "acme", "api_keys"),
        Principal("alice", ALICE.scopes, "other", "api_keys"),
        Principal("alice", ALICE.scopes, "acme", "oidc"),
        Principal("root", frozenset({"admin"}), "acme", "api_keys"),
    ],
    ids=["subject", "tenant", "provider", "admin"],
)
def test_a_conversation_is_its_owners_alone(stranger: Principal) -> None:
    memory = ConversationMemory()
    kept = memory.keep(ALICE, MESSAGES)

    with pytest.raises(NotFoundError):
        memory.recall(stranger, kept)


def test_a_conversation_is_forgotten_in_time() -> None:
    clock = Clock()
    memory = ConversationMemory(seconds=60, clock=clock)
    kept = memory.keep(ALICE, MESSAGES)
    clock.now = 60
    assert memory.recall(ALICE, kept) == MESSAGES
    clock.now = 61

    with pytest.raises(NotFoundError):
        memory.recall(ALICE, kept)


@pytest.mark.parametrize(
    "memory", [ConversationMemory(max_entries=2), ConversationMemory(max_bytes=200)]
)
def test_the_oldest_conversations_go_first(memory: ConversationMemory) -> None:
    oldest, *kept = [memory.keep(ALICE, MESSAGES) for _ in range(3)]

    with pytest.raises(NotFoundError):
        memory.recall(ALICE, oldest)
    assert [memory.recall(ALICE, each) for each in kept] == [MESSAGES, MESSAGES]
