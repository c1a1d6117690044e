"""What the model is asked when it is measured: conversations whose last turn is scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import answers
import corpus
import facts
import phrasings as ways
import verses
from answers import Source, Turn
from phrasings import Asked


@dataclass(frozen=True)
class Case:
    turn: Turn
    before: tuple[str, ...] = ()  # questions asked earlier in the same chat
    system: str = ""
    as_object: bool = False  # ask for response_format json_object
    tools: tuple[str, ...] = ()


@dataclass(frozen=True)
class First(Source):
    """Always the plainest phrasing."""

    def ask(self, asked: Asked, *values: object) -> str:
        return asked.trained[0].format(*values)


@dataclass
class Suite:
    """Cases by category."""

    name: str
    cases: list[Case] = field(default_factory=list)

    def add(self, case: Case) -> None:
        self.cases.append(case)


Exchange = Callable[[Source], list[Turn]]

# One case for each fact; elsewhere one for each question.
BY_FACT: tuple[Exchange, ...] = (
    answers.capital,
    answers.country,
    answers.arithmetic,
    answers.opposite,
    answers.calendar,
    answers.colour,
    answers.hello_in,
    answers.count,
    answers.repeat,
    answers.as_json,
)
BY_TOPIC: tuple[Exchange, ...] = (answers.poem, answers.story)
BY_QUESTION: tuple[Exchange, ...] = (
    answers.greeting,
    answers.thanks,
    answers.goodbye,
    answers.identity,
    answers.abilities,
    answers.dont_know,
    answers.too_big,
)


def _distinct(source: Source, exchange: Exchange, key: Callable[[Turn], str], most: int) -> list[Turn]:
    found: dict[str, Turn] = {}
    for _ in range(6000):
        if len(found) >= most:
            break
        turn = exchange(source)[0]
        found.setdefault(key(turn), turn)
    return list(found.values())


def turns(source: Source, most: int) -> list[Turn]:
    """Single questions of every category, as `source` puts them."""
    drawn: list[Turn] = []
    for exchange in BY_FACT:
        drawn += _distinct(source, exchange, lambda turn: turn.answer, most)
    for exchange in BY_TOPIC:
        drawn += _distinct(source, exchange, lambda turn: turn.expect, most)
    for exchange in BY_QUESTION:
        drawn += _distinct(source, exchange, lambda turn: turn.question, min(most, 60))
    return drawn


def closed_set(seed: int) -> list[Turn]:
    """The questions that the model is for: every fact once, every fixed question once."""
    source = First(Random(seed))
    drawn: list[Turn] = []
    limits: dict[Exchange, int] = {
        answers.country: 60,
        answers.arithmetic: 80,
        answers.count: 8,
        answers.repeat: 20,
        answers.as_json: 30,
    }
    for exchange in BY_FACT:
        drawn += _distinct(source, exchange, lambda turn: turn.answer, limits.get(exchange, 400))
    for exchange in BY_TOPIC:
        drawn += _distinct(source, exchange, lambda turn: turn.expect, 8)
    for asked, exchange in (
        (ways.GREETING, answers.greeting),
        (ways.THANKS, answers.thanks),
        (ways.GOODBYE, answers.goodbye),
        (ways.IDENTITY, answers.identity),
        (ways.ABILITIES, answers.abilities),
    ):
        like = exchange(source)[0]
        drawn += [Turn(question, like.answer, like.category, like.expect) for question in asked.trained]
    for first, last in ((1, 10), (1, 20), (1, 50), (1, 100), (20, 40)):
        text = answers.counted(first, last)
        drawn.append(Turn(f"Count from {first} to {last}.", text, "count", text))
    kept = {turn.question: turn for turn in drawn}
    return list(kept.values())


def unseen_sums(seed: int, most: int) -> list[Turn]:
    """Sums that never entered the corpus, in trained phrasings."""
    source = Source(Random(seed))
    pairs = [
        (left, sign, right)
        for sign in "+-x"
        for left in range(answers.LARGEST_TERM + 1)
        for right in range(left + 1)
        if answers.is_held_out(left, sign, right) and (sign != "x" or left <= answers.LARGEST_FACTOR)
    ]
    chosen = source.rng.sample(pairs, min(most, len(pairs)))
    names = {"+": "sum", "-": "difference", "x": "product"}
    return [
        _renamed(answers.sum_turn(source, left, sign, right), f"unseen {names[sign]}")
        for left, sign, right in chosen
    ]


def _renamed(turn: Turn, category: str) -> Turn:
    return Turn(turn.question, turn.answer, category, turn.expect)


_KNOWN: tuple[Exchange, ...] = (
    answers.capital,
    answers.arithmetic,
    answers.opposite,
    answers.calendar,
    answers.colour,
)


def _known_question(rng: Random) -> Turn:
    return rng.choice(_KNOWN)(Source(rng))[0]


def _short_question(rng: Random) -> Turn:
    return rng.choice((*_KNOWN, answers.dont_know))(Source(rng))[0]


def robustness(seed: int, most: int) -> list[Case]:
    """The same kinds of questions in harder places; the category names the place."""
    rng = Random(seed)
    found: list[Case] = []
    for _ in range(most):
        turn = _short_question(rng)
        found.append(
            Case(_renamed(turn, "after a system prompt"), system=verses.system_prompt(rng, longest=8))
        )
        lower = Turn(
            turn.question.lower().rstrip("?.! "), turn.answer, "lower case, no full stop", turn.expect
        )
        found.append(Case(lower))
        for name, earlier in (("third turn", 2), ("sixteenth turn", 15)):
            before = tuple(_short_question(rng).question for _ in range(earlier))
            found.append(Case(_renamed(_short_question(rng), name), before=before))
        told, *_, asked = answers.my_name(Source(rng))
        between = tuple(_short_question(rng).question for _ in range(2))
        found.append(Case(_renamed(asked, "remembers a name"), before=(told.question, *between)))
        told, *_, asked = answers.my_name(Source(rng, held_out=True))
        found.append(Case(_renamed(asked, "remembers an unseen name"), before=(told.question,)))
        first, *rest = answers.capital_follow_up(Source(rng))
        found.append(Case(_renamed(rest[0], "follow-up"), before=(first.question,)))
    return found


def objects(seed: int, most: int) -> list[Case]:
    """Plain questions with response_format json_object, which the grammar then enforces."""
    source = First(Random(seed))
    drawn = _distinct(source, answers.forced_json, lambda turn: turn.question, most)
    return [Case(_renamed(turn, "json_object"), as_object=True) for turn in drawn]


def tool_cases(seed: int, most: int) -> list[Case]:
    rng = Random(seed)
    offered = tuple(corpus.TOOLS)
    found: list[Case] = []
    for _ in range(most):
        name = rng.choice(offered)
        city = rng.choice(list(facts.CAPITALS.values()))
        asked = corpus.TOOLS[name][2].format(city)
        others = tuple(other for other in offered if other != name and rng.random() < 0.5)
        found.append(Case(Turn(asked, "", "calls the tool", city), tools=(name, *others)))
        found.append(Case(_renamed(_known_question(rng), "leaves the tool alone"), tools=(name,)))
    return found
