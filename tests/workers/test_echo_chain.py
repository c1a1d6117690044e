"""The chain of the echo engine proves continuity: what comes next depends on every id before."""

from collections.abc import Iterable
from typing import Any

import pytest

from inglenook.workers.echo.speech import Chain, vocabulary
from inglenook.workers.echo.tokens import PIECE_BYTES, Tokenizer, UnknownToken, piece_bytes
from tests.workers.conftest import Start
from tests.workers.running import Running, user

LENGTH = 40
BOTH = pytest.mark.parametrize("tokenizer", [Tokenizer(), Tokenizer(split_characters=True)])


def ids_of(events: Iterable[Any]) -> list[int]:
    """Return the ids in the events of a native stream."""
    return [number for event in events for number in event["tokens"]]


def chain(engine: Running, prompt: list[int] | str, **more: Any) -> tuple[list[int], Any]:
    """Return the ids that a native stream gives, and its last event."""
    body = {"prompt": prompt, "stream": True, **more}
    *tokens, last = engine.post("/completion", body).events
    return ids_of(tokens), last


@BOTH
def test_a_chain_is_the_same_text_again_as_it_is_ids(tokenizer: Tokenizer) -> None:
    """Tokenizing the text of a chain gives its ids, so that it can be resumed by text too."""
    prompt = tokenizer.encode("<|im_start|>assistant\n")
    ids = list(Chain(tokenizer, length=3000).speak(prompt))
    assert tokenizer.encode(tokenizer.decode(ids).decode(errors="ignore"))[:2990] == ids[:2990]


@BOTH
def test_a_chain_goes_on_after_any_part_of_itself(tokenizer: Tokenizer) -> None:
    """From the prompt and the first k ids, the rest follows and no more, for every k."""
    speaker = Chain(tokenizer, length=LENGTH)
    prompt = tokenizer.encode("Tell me\n")
    whole = list(speaker.speak(prompt))
    assert len(whole) == LENGTH
    for k in range(LENGTH + 1):
        assert list(speaker.speak(prompt + whole[:k])) == whole[k:]


@BOTH
def test_a_gap_a_repeat_or_a_swap_changes_what_follows(tokenizer: Tokenizer) -> None:
    """The next ids differ as soon as any id before them does."""
    speaker = Chain(tokenizer, length=LENGTH)
    prompt = tokenizer.encode("Tell me\n")
    whole = list(speaker.speak(prompt))
    for wrong in (whole[:9] + whole[10:20], whole[:20] + whole[19:20], whole[1::-1] + whole[2:20]):
        assert list(speaker.speak(prompt + wrong))[:10] != whole[20:30]
    assert list(speaker.speak(prompt[1:])) != whole


def test_the_vocabulary_has_marks_and_characters_of_every_width() -> None:
    """Characters of one to four bytes, and those that JSON must escape, are among the words."""
    words = vocabulary(Tokenizer())
    assert {len(character.encode()) for word in words for character in word} == {1, 2, 3, 4}
    assert len(words) == len(set(words))
    assert {' "', " \\", " été", "漢", "🦉"} <= set(words)


@pytest.mark.parametrize("number", [-1, 0, 1, 255, 2 << 8, 2 << 8 * PIECE_BYTES, 1 << 60])
def test_what_is_no_id_is_refused(number: int) -> None:
    """Numbers that stand for no piece raise, whatever their size."""
    with pytest.raises(UnknownToken):
        piece_bytes(number)


def test_a_chain_resumes_in_another_process_from_its_ids(start: Start) -> None:
    """Prompt ids and generated ids given to a fresh process bring exactly the missing ids."""
    first, second = (start("--chain", "--tokens", str(LENGTH)) for _ in range(2))
    prompt = first.post("/tokenize", {"content": "Tell me"}).json["tokens"]
    whole, last = chain(first, prompt)
    assert (len(whole), last["stop_type"]) == (LENGTH, "eos")
    for k in range(LENGTH + 1):
        rest, last = chain(second, prompt + whole[:k], n_predict=LENGTH - k or 1)
        assert whole[:k] + rest == whole
        assert last["tokens_evaluated"] == len(prompt) + k


def test_a_chat_resumes_in_another_process_from_its_text(start: Start) -> None:
    """The answer so far, given as an assistant message, is carried on without a seam."""
    first, second = (start("--chain", "--tokens", str(LENGTH)) for _ in range(2))
    whole = first.chat("Tell me").json["choices"][0]["message"]["content"]
    assert not whole.isascii()
    for cut in range(1, len(whole) + 1):
        # Between tokens only: a cut word is another word.
        if cut < len(whole) and whole[cut] != " ":
            continue
        messages = [*user("Tell me"), {"role": "assistant", "content": whole[:cut]}]
        answer = second.post("/v1/chat/completions", {"messages": messages}).json
        assert answer["choices"][0]["message"]["content"] == whole


def test_a_chain_ends_at_its_length_or_at_the_limit(start: Start) -> None:
    """Reaching the length is a stop, a smaller limit is a cut."""
    engine = start("--chain", "--tokens", "5")
    whole, cut = engine.chat("x").json, engine.chat("x", max_tokens=4).json
    assert (whole["choices"][0]["finish_reason"], whole["usage"]["completion_tokens"]) == ("stop", 5)
    assert (cut["choices"][0]["finish_reason"], cut["usage"]["completion_tokens"]) == ("length", 4)


def test_split_characters_show_only_their_last_id(start: Start) -> None:
    """As in llama-server, a character of several tokens is one event with one id, and is counted."""
    engine = start("--split-characters")
    *tokens, last = engine.post("/completion", {"prompt": "a🦉漢", "stream": True}).events
    assert [event["content"] for event in tokens] == ["a", "🦉", "漢"]
    assert [len(event["tokens"]) for event in tokens] == [1, 1, 1]
    assert [event["tokens_predicted"] for event in tokens] == [1, 5, 8]
    assert last["tokens_predicted"] == 8
    whole = engine.post("/completion", {"prompt": "a🦉漢", "return_tokens": True}).json
    assert engine.post("/detokenize", {"tokens": whole["tokens"]}).json["content"] == "a🦉漢"
