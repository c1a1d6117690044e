"""What a chat sends, keeps and saves."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inglenook.cli.conversation import Conversation, Mistake, Round, loaded


def two_rounds() -> Conversation:
    return Conversation(
        "Be brief.", {"seed": 7}, [Round("one", "eins", "complete"), Round("two", "zw", "stopped")]
    )


def test_everything_answered_is_sent_with_the_question() -> None:
    """Roles alternate, the system message comes first, and a stopped answer counts as it stands."""
    conversation = two_rounds()
    conversation.ask("three")
    body = json.loads(conversation.request("m"))
    assert [message["content"] for message in body["messages"]] == [
        "Be brief.",
        "one",
        "eins",
        "two",
        "zw",
        "three",
    ]
    roles = [message["role"] for message in body["messages"]]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]
    assert (body["model"], body["seed"], body["stream"]) == ("m", 7, True)


def test_a_question_without_an_answer_is_sent_once() -> None:
    """Chat templates refuse two user messages in a row."""
    conversation = Conversation()
    conversation.ask("lost").ending = "cut"
    conversation.ask("next")
    assert conversation.messages() == [{"role": "user", "content": "next"}]


def test_again_takes_the_last_answer_out() -> None:
    """Asking again sends what was sent the first time."""
    conversation = two_rounds()
    asked = conversation.again()
    assert (asked.question, asked.answer, asked.ending) == ("two", "", "open")
    assert [message["content"] for message in conversation.messages()][-2:] == ["eins", "two"]
    with pytest.raises(Mistake, match="nothing to ask again"):
        Conversation().again()


def test_clear_keeps_what_was_set() -> None:
    """A new conversation has the same system message and settings."""
    conversation = two_rounds()
    conversation.clear()
    assert conversation == Conversation("Be brief.", {"seed": 7}, [])


def test_a_saved_conversation_comes_back_the_same() -> None:
    """Nothing is lost on the way through a file, an unanswered question included."""
    conversation = two_rounds()
    conversation.ask("three")
    assert loaded(conversation.saved("m")) == conversation


def test_a_plain_list_of_messages_is_taken() -> None:
    """What other programs keep of a chat can be gone on with."""
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho", "extra": 1}]
    assert loaded(json.dumps(messages).encode()).rounds == [Round("hi", "ho", "complete")]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is no saved conversation"),
        (b"\xff{}", "is no saved conversation"),
        (b"{}", "is no saved conversation"),
        (b'[{"role": "tool", "content": "x"}]', "is no saved conversation"),
        (b'[{"role": "assistant", "content": "x"}]', "has an answer without a question"),
        (b'[{"role": "user", "content": "x"}, {"role": "system", "content": "y"}]', "system message"),
        (b'{"messages": [], "settings": {"temperature": 9}}', "temperature must be between 0 and 2"),
    ],
)
def test_a_file_that_is_no_conversation_is_refused(data: bytes, says: str) -> None:
    """Each refusal says what is wrong with the file."""
    with pytest.raises(Mistake, match=says):
        loaded(data)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [("temperature", "0.5", 0.5), ("top_p", "1", 1.0), ("max_tokens", "9", 9), ("seed", "-3", -3)],
)
def test_settings_are_set_and_taken_back(name: str, text: str, value: Any) -> None:
    """A setting without a value is the model's own again."""
    conversation = Conversation()
    conversation.set(name, text)
    assert conversation.settings == {name: value}
    conversation.set(name, "")
    assert conversation.settings == {}


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("temprature", "1", "did you mean temperature"),
        ("zzz", "1", "there is temperature, top_p, max_tokens, seed"),
        ("seed", "1.5", "seed takes a whole number, not '1.5'"),
        ("top_p", "much", "top_p takes a number, not 'much'"),
        ("temperature", "nan", "must be between 0 and 2"),
        ("max_tokens", "0", "max_tokens must be between 1 and"),
    ],
)
def test_settings_that_cannot_be_are_refused(name: str, text: str, says: str) -> None:
    """The sentence names the mend."""
    with pytest.raises(Mistake, match=says):
        Conversation().set(name, text)
