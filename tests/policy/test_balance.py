"""Requests go to the least busy replica, and to the one that knows their prompt while that is fair."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import msgspec

from inglenook.policy.balance import BLOCK, BUSIER_BY, MAX_BLOCKS, Balance, beginning, blocks
from inglenook.wire.openai import ChatRequest, CompletionRequest


@dataclass
class House:
    """Replicas with nothing in flight but what is put there."""

    balance: Balance
    busy: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0})

    def pick(self, prompt: str = "") -> int:
        return self.balance.pick(self.busy, prompt)


def long(word: str, count: int = 4) -> str:
    return (word * BLOCK)[: BLOCK * count]


def test_requests_one_after_another_are_spread_by_weight() -> None:
    """Nobody is busy then, so what each had so far decides."""
    house = House(Balance([3.0, 1.0]))
    assert Counter(house.pick() for _ in range(40)) == {0: 30, 1: 10}


def test_the_least_busy_for_its_weight_is_chosen() -> None:
    """Three requests on the stronger are less than two on the weaker."""
    house = House(Balance([2.0, 1.0]))
    house.busy = {0: 3, 1: 2}
    assert house.pick() == 0
    house.busy = {0: 5, 1: 2}
    assert house.pick() == 1


def test_a_prompts_beginning_leads_to_the_replica_that_has_read_it() -> None:
    """Eight shared beginnings, many endings: each beginning stays where it was first read."""
    house = House(Balance([1.0, 1.0]))
    first = {word: house.pick(long(word) + "a") for word in "abcdefgh"}
    assert Counter(first.values()) == {0: 4, 1: 4}
    for turn in range(20):
        for word, at in first.items():
            assert house.pick(long(word) + long(str(turn), 1)) == at


def test_it_moves_away_when_its_favourite_is_too_busy_and_then_both_know_it() -> None:
    """A prompt that waits behind others is sooner read anew."""
    house = House(Balance([1.0, 1.0]))
    prompt = long("x")
    home = house.pick(prompt)
    other = 1 - home
    house.busy = {home: int(BUSIER_BY) - 1, other: 0}
    assert house.pick(prompt) == home
    house.busy = {home: int(BUSIER_BY), other: 0}
    assert house.pick(prompt) == other
    house.busy = {home: 1, other: 0}
    assert house.pick(prompt) == other


def test_the_longest_known_beginning_wins() -> None:
    """Everybody shares a system prompt; a conversation goes to the replica that has its own turns."""
    house = House(Balance([1.0, 1.0]))
    system = long("s")
    mine = system + long("m")
    home = house.pick(mine)
    house.busy = {home: int(BUSIER_BY), 1 - home: 0}
    assert house.pick(system + long("y")) == 1 - home
    house.busy = {0: 0, 1: 0}
    assert house.pick(mine + long("n")) == home


def test_a_replica_that_is_left_out_gets_nothing() -> None:
    """However well it knows the prompt."""
    house = House(Balance([1.0, 1.0]))
    home = house.pick(long("x"))
    house.busy = {1 - home: 100}
    assert house.pick(long("x")) == 1 - home


def test_what_is_remembered_is_bounded() -> None:
    """The oldest are forgotten first."""
    balance = Balance([1.0, 1.0], most=100)
    for at in range(1000):
        balance.pick({0: 0, 1: 0}, long(f"{at:04}"))
    assert len(balance._readers) == 100
    assert len(blocks("x" * 10_000_000)) == MAX_BLOCKS


def test_a_mark_depends_on_all_before_it() -> None:
    """As an engine's cache of a prompt does: the same words after others are another prompt."""
    one, two = blocks(long("a", 1) + long("z", 1)), blocks(long("b", 1) + long("z", 1))
    assert len(one) == len(two) == 2
    assert not {*one} & {*two}
    assert blocks("short") == []


def chat(*messages: dict[str, object]) -> str:
    body = msgspec.json.encode({"model": "m", "messages": messages})
    return beginning(msgspec.json.decode(body, type=ChatRequest))


def test_the_beginning_of_a_chat_is_roles_and_words() -> None:
    """Text in parts is text; the same words by another speaker are another prompt."""
    parts = [{"type": "text", "text": "hello"}, {"type": "image_url", "image_url": {"url": "data:,x"}}]
    assert chat({"role": "user", "content": "hello"}) == "\0user\0hello"
    assert chat({"role": "user", "content": parts}) == "\0user\0hellodata:,x"
    assert chat({"role": "user", "content": "a"}) != chat({"role": "system", "content": "a"})
    assert chat({"role": "assistant", "content": None}) == "\0assistant\0"


def test_the_beginning_of_a_completion_is_its_prompts() -> None:
    """Token ids too. Not more is read of it than is looked at."""
    assert beginning(CompletionRequest(model="m", prompt="abc")) == "abc"
    assert beginning(CompletionRequest(model="m", prompt=[1, 2])) == "1,2"
    assert beginning(CompletionRequest(model="m", prompt=["a", "b"])) == "ab"
    many = beginning(CompletionRequest(model="m", prompt=["x" * BLOCK] * 1000))
    assert len(many) == BLOCK * MAX_BLOCKS
