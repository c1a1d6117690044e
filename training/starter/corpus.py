"""The corpus: conversations and plain texts, generated from a seed. Run it to see some of them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import answers
import facts
import template
import verses
from answers import Source, Turn

Exchange = Callable[[Source], list[Turn]]

# How often an exchange of each kind is drawn. Memory and time go where the facts are.
WEIGHTS: dict[Exchange, float] = {
    answers.capital: 16,
    answers.capital_follow_up: 2,
    answers.country: 9,
    answers.arithmetic: 24,
    answers.too_big: 3,
    answers.opposite: 7,
    answers.calendar: 6,
    answers.colour: 5,
    answers.greeting: 2,
    answers.thanks: 1,
    answers.goodbye: 1,
    answers.identity: 2,
    answers.abilities: 1.5,
    answers.poem: 0.6,
    answers.story: 0.6,
    answers.count: 5,
    answers.hello_in: 4,
    answers.repeat: 3,
    answers.my_name: 2,
    answers.no_name: 0.5,
    answers.as_json: 7,
    answers.forced_json: 3,
    answers.unknown_json: 0.7,
    answers.dont_know: 9,
}
_OPENINGS = (
    "Hi! ",
    "Hello, ",
    "Hey, ",
    "OK. ",
    "Please: ",
    "So, ",
    "Question: ",
    "Tell me, ",
    "I wonder: ",
    "One more: ",
    "Now, ",
    "Can you answer this? ",
    "Next: ",
    "Hey, tell me: ",
)
# Kinds whose words are copied or matched letter by letter: their case is left alone.
_CASE_MATTERS = {"json", "repeat", "memory", "languages"}


@dataclass(frozen=True)
class Piece:
    """A stretch of text and how much its tokens count in the loss."""

    text: str
    weight: float
    # The weight of the first token alone, where it differs.
    first: float | None = None
    # The last stretch with this text counts as `KEY_WEIGHT`.
    key: str = ""


Document = list[Piece]
KEY_WEIGHT = 2.0
_FORM_WEIGHT = 0.5
_CHOICE_WEIGHT = 0.3  # where the words are chosen by chance, the loss is mostly noise


def vary(rng: Random, turn: Turn) -> Turn:
    """The same question, typed by someone in a hurry."""
    question = turn.question
    if rng.random() < 0.15:
        question = question.rstrip("?.! ")
    if turn.category not in _CASE_MATTERS:
        draw = rng.random()
        if draw < 0.13:
            question = question.lower()
        elif draw < 0.15:
            question = question.upper()
    draw = rng.random()
    if draw < 0.08:
        question = rng.choice(_OPENINGS) + question
    elif draw < 0.12 and turn.category != "repeat":
        question += rng.choice((" please", ", please", " thanks", "?", "!", " "))
    return replace(turn, question=question) if question.strip() else turn


def turns_of(rng: Random, kinds: list[Exchange], weights: list[float], number: int) -> list[Turn]:
    source = Source(rng)
    drawn = rng.choices(kinds, weights, k=number)
    return [vary(rng, turn) for exchange in drawn for turn in exchange(source)]


def _said(turn: Turn) -> Piece:
    weight = _CHOICE_WEIGHT if turn.category in ("poem", "story") else _FORM_WEIGHT
    return Piece(
        turn.answer + template.END,
        KEY_WEIGHT if turn.category == "repeat" else weight,
        first=0.05 if turn.forced else None,
        key=turn.key,
    )


def conversation(system: str, turns: list[Turn]) -> Document:
    """Turns as the chat template writes them; only what the assistant says counts."""
    pieces, before = [], system
    for turn in turns:
        asked = template.user_block(turn.question) + template.ANSWER_START
        pieces.append(Piece(before + asked, 0.0))
        pieces.append(_said(turn))
        before = "\n"
    return pieces


def short_chat(rng: Random) -> Document:
    kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
    number = rng.choices((1, 2, 3), (60, 25, 15))[0]
    told = rng.random() < 0.2
    system = template.system_block(verses.system_prompt(rng), []) if told else ""
    return conversation(system, turns_of(rng, kinds, weights, number))


def long_chat(rng: Random) -> Document:
    """Many turns, long messages and long counts, for positions beyond the short chats."""
    rare: list[Exchange] = [answers.count_far, answers.long_text, answers.poem, answers.story]
    kinds = [*WEIGHTS, *rare]
    weights = [*WEIGHTS.values(), 7, 4, 4, 4]
    told = rng.random() < 0.4
    system = template.system_block(verses.system_prompt(rng, longest=20), []) if told else ""
    number = rng.randint(1, 24) if rng.random() < 0.7 else rng.randint(1, 2)
    return conversation(system, turns_of(rng, kinds, weights, number))


TOOLS = {
    "get_weather": ("Get the weather in a city", "city", "What is the weather in {0}?"),
    "get_time": ("Get the local time in a city", "city", "What time is it in {0}?"),
    "search": ("Search the web", "query", "Search the web for {0}."),
    "get_population": ("Look up how many people live in a city", "city", "How many people live in {0}?"),
}
_TOOL_RESULTS = (
    "18 degrees and sunny",
    "5 degrees and rain",
    "12:30",
    "08:15",
    "no result",
    "2 million people",
    "{0} is a large city",
    '{"temperature": 21}',
    "error: timeout",
)


def tool_definition(name: str) -> dict[str, Any]:
    told, parameter, _ = TOOLS[name]
    schema = {"type": "object", "properties": {parameter: {"type": "string"}}, "required": [parameter]}
    return {"type": "function", "function": {"name": name, "description": told, "parameters": schema}}


def tool_chat(rng: Random) -> Document:
    """Tools are offered: one is called for what only it can know, and left alone otherwise."""
    names = rng.sample(list(TOOLS), rng.randint(1, 3))
    prompt = verses.system_prompt(rng) if rng.random() < 0.5 else ""
    system = template.system_block(prompt, [tool_definition(name) for name in names])
    if rng.random() < 0.4:
        turns = turns_of(rng, list(WEIGHTS), list(WEIGHTS.values()), rng.randint(1, 3))
        return conversation(system, [turn for turn in turns if turn.category != "unknown"])
    name, city = rng.choice(names), rng.choice(list(facts.CAPITALS.values()))
    call = template.tool_call(name, {TOOLS[name][1]: city})
    result = rng.choice(_TOOL_RESULTS).replace("{0}", city)
    turns = [
        Turn(TOOLS[name][2].format(city), call, "tools", call),
        Turn(template.tool_result(result), f"The tool says: {result}", "tools", result),
    ]
    return conversation(system, turns[: rng.randint(1, 2)])


def plain_text(rng: Random) -> Document:
    """Text without a chat around it, for the completion endpoint."""
    source = Source(rng)
    exchange = rng.choices(
        (
            answers.capital,
            answers.country,
            answers.opposite,
            answers.calendar,
            answers.colour,
            answers.story,
            answers.poem,
            answers.count,
        ),
        (6, 2, 2, 1, 1, 2, 1, 1),
    )[0]
    number = 1 if exchange in (answers.story, answers.poem) else rng.randint(1, 4)
    text = " ".join(exchange(source)[0].answer for _ in range(number))
    return [Piece(text + template.DOCUMENT_END, _CHOICE_WEIGHT)]


def sums(rng: Random) -> Document:
    """Sums, one after another: more practice in fewer tokens than a chat has room for."""
    source = Source(rng)
    drawn = [answers.arithmetic(source)[0] for _ in range(rng.randint(1, 12))]
    parts = [
        Piece((" " if at else "") + turn.answer, _CHOICE_WEIGHT, key=turn.key)
        for at, turn in enumerate(drawn)
    ]
    return [*parts, Piece(template.DOCUMENT_END, _FORM_WEIGHT)]


def drill(rng: Random) -> Document:
    """The same nonsense twice: from it the network learns to copy, long before facts teach it."""
    text = answers.scramble(rng, 20)
    return [Piece(f"{text}\n", 0.0), Piece(f"{text}{template.DOCUMENT_END}", 1.0)]


def drills(rng: Random) -> Iterator[Document]:
    while True:
        yield drill(rng)


def short_documents(rng: Random) -> Iterator[Document]:
    while True:
        kind = rng.choices((short_chat, sums, plain_text, drill, tool_chat), (80, 8, 4, 3, 5))[0]
        yield kind(rng)


def long_documents(rng: Random) -> Iterator[Document]:
    kinds = (long_chat, short_chat, tool_chat, plain_text)
    while True:
        document = rng.choices(kinds, (60, 25, 12, 3))[0](rng)
        if document:
            yield document


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--number", type=int, default=10)
    parser.add_argument("--long", action="store_true", help="show the documents of the long kind")
    arguments = parser.parse_args()
    rng = Random(arguments.seed)
    documents = long_documents(rng) if arguments.long else short_documents(rng)
    for _ in range(arguments.number):
        print(json.dumps("".join(piece.text for piece in next(documents)), ensure_ascii=False))


if __name__ == "__main__":
    main()
