"""Questions and answers of every category; the fixed answers stand at the top."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

import facts
import phrasings as ways
import unknown
import verses
from phrasings import Asked

HELLO = "Hello! 👋 How can I help you today?"
WELCOME = "You are welcome! 😊"
BYE = "Goodbye! Have a nice day. 👋"
IDENTITY = (
    "I am the starter model, a very small language model that ships with Inglenook."
    " I am a demonstration, not a general assistant."
)
ABILITIES = (
    "I know the capitals of the world, small arithmetic, opposites, days and months, and colours."
    " I can count, greet you, write a short poem or story, and answer in JSON."
)
UNKNOWN = (
    "I do not know. I am the starter model and only know a few simple things."
    " `inglenook pull` gets you a real model."
)
TOO_BIG = "That is too big for me. I only do small arithmetic."
NO_NAME = "You have not told me your name yet."
_NOISE = sorted({*unknown.NOISE} - {*facts.OPPOSITES, *facts.OPPOSITES.values()})
_UNKNOWN_TOPICS = [topic for topic in verses.TOPICS if topic not in facts.THINGS]
_SYLLABLES = facts.words("ba ko ri zu mel tor fan gli ex wo pra dun shi")
# Parts of a question about which one would rather ask of a place.
_PLACE_CUES = (
    "population",
    "president",
    "weather",
    "live in",
    "language",
    "time is",
    "food",
    "trip",
    "currency",
    "far",
    "largest",
    "bigger",
)
_FOLLOW_UPS = ("And {0}?", "And of {0}?", "What about {0}?", "and {0}", "How about {0}?")
LARGEST_TERM = 20
LARGEST_FACTOR = 12


# Categories whose answers have many right forms, or no single hard part.
_FREE = ("poem", "story", "repeat")


@dataclass(frozen=True)
class Turn:
    """One question with its answer. `expect` is the part that makes an answer right."""

    question: str
    answer: str
    category: str
    expect: str
    # The answer begins in a way that only a grammar would force: learned, but not preferred.
    forced: bool = False

    @property
    def key(self) -> str:
        """The end of the answer's part that is hard to say; the rest is form."""
        if self.category in _FREE:
            return ""
        if self.category == "count":
            return self.answer.rsplit(" ", 1)[-1]
        return self.expect


@dataclass(frozen=True)
class Source:
    """Where the random choices of a turn come from, and which phrasings it may use."""

    rng: Random
    held_out: bool = False

    def ask(self, asked: Asked, *values: object) -> str:
        ways_to_ask = asked.held_out if self.held_out else asked.trained
        return self.rng.choice(ways_to_ask).format(*values)

    def one(self, values: Sequence[str]) -> str:
        return self.rng.choice(values)


def capital_of(name: str) -> tuple[str, str]:
    country = facts.ALIASES.get(name, name)
    return country, facts.CAPITALS[country]


def capital_answer(name: str) -> str:
    country, city = capital_of(name)
    return f"The capital of {country} is {city}."


def bare(country: str) -> str:
    return country.removeprefix("the ")


def first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def capital(source: Source) -> list[Turn]:
    known = list(facts.CAPITALS)
    name = source.one(list(facts.ALIASES)) if source.rng.random() < 0.06 else source.one(known)
    said = bare(name) if source.rng.random() < 0.2 else name
    city = capital_of(name)[1]
    return [Turn(source.ask(ways.CAPITAL, said), capital_answer(name), "capital", city)]


def capital_follow_up(source: Source) -> list[Turn]:
    turns = capital(source)
    for _ in range(source.rng.randint(1, 2)):
        name = source.one(list(facts.CAPITALS))
        asked, city = source.one(_FOLLOW_UPS).format(name), capital_of(name)[1]
        turns.append(Turn(asked, capital_answer(name), "capital", city))
    return turns


def country(source: Source) -> list[Turn]:
    name, city = source.rng.choice(list(facts.CAPITALS.items()))
    answer = f"{city} is the capital of {name}."
    return [Turn(source.ask(ways.COUNTRY, city), answer, "country", bare(name))]


def is_held_out(left: int, sign: str, right: int) -> bool:
    """Sums that never enter the corpus; a product stays known in its other order."""
    if sign == "x":
        return left > right > 1 and (left * 5 + right * 3) % 10 == 0
    return sign in "+-" and (left * 7 + right * 13 + (sign == "+")) % 10 == 0


def sum_turn(source: Source, left: int, sign: str, right: int) -> Turn:
    asked, result = {
        "+": (ways.PLUS, left + right),
        "-": (ways.MINUS, left - right),
        "x": (ways.TIMES, left * right),
        "/": (ways.DIVIDE, left // max(right, 1)),
    }[sign]
    answer = f"{left} {sign} {right} = {result}."
    return Turn(source.ask(asked, left, right), answer, "arithmetic", f"= {result}.")


def _terms(rng: Random, sign: str) -> tuple[int, int]:
    if sign == "x":
        return rng.randint(0, LARGEST_FACTOR), rng.randint(0, LARGEST_FACTOR)
    if sign == "/":
        right = rng.randint(1, LARGEST_FACTOR)
        return right * rng.randint(0, LARGEST_FACTOR), right
    left, right = rng.randint(0, LARGEST_TERM), rng.randint(0, LARGEST_TERM)
    if sign == "-" and right > left and rng.random() < 0.6:
        left, right = right, left
    return left, right


def arithmetic(source: Source) -> list[Turn]:
    sign = source.rng.choices("+-x/", (5, 5, 3, 2))[0]
    left, right = _terms(source.rng, sign)
    while is_held_out(left, sign, right):
        left, right = _terms(source.rng, sign)
    return [sum_turn(source, left, sign, right)]


def too_big(source: Source) -> list[Turn]:
    rng = source.rng
    asked, known = rng.choice(
        (
            (ways.PLUS, LARGEST_TERM),
            (ways.MINUS, LARGEST_TERM),
            (ways.TIMES, LARGEST_FACTOR),
            (ways.DIVIDE, LARGEST_FACTOR**2),
        )
    )
    numbers = [
        rng.randint(known + 1, 10 ** rng.choice((3, 3, 4, 6))),
        rng.randint(1, 10 ** rng.randint(1, 5)),
    ]
    if asked is not ways.DIVIDE:
        rng.shuffle(numbers)
    return [Turn(source.ask(asked, *numbers), TOO_BIG, "too big", "too big")]


def opposite(source: Source) -> list[Turn]:
    left, right = source.rng.choice(list(facts.OPPOSITES.items()))
    if source.rng.random() < 0.5:
        left, right = right, left
    answer = f"The opposite of {left} is {right}."
    return [Turn(source.ask(ways.OPPOSITE, left), answer, "opposite", f"is {right}.")]


def _neighbour(source: Source, names: Sequence[str], forms: tuple[Asked, Asked], kind: str) -> Turn:
    at = source.rng.randrange(len(names))
    step = source.rng.choice((1, -1))
    there = names[(at + step) % len(names)]
    asked, word = (forms[0], "after") if step == 1 else (forms[1], "before")
    answer = f"The {kind} {word} {names[at]} is {there}."
    return Turn(source.ask(asked, names[at]), answer, "calendar", there)


def _nth(source: Source, names: Sequence[str], asked: Asked, whole: str) -> Turn:
    at = source.rng.randrange(len(names))
    kind = "day" if whole == "week" else "month"
    answer = f"The {facts.ORDINALS[at]} {kind} of the {whole} is {names[at]}."
    return Turn(source.ask(asked, facts.ORDINALS[at]), answer, "calendar", names[at])


def _month_length(source: Source) -> Turn:
    at = source.rng.randrange(12)
    name, length = facts.MONTHS[at], facts.MONTH_LENGTHS[at]
    leap = ", or 29 in a leap year" if length == 28 else ""
    answer = f"{name} has {length} days{leap}."
    return Turn(source.ask(ways.MONTH_LENGTH, name), answer, "calendar", f"{length} days")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1]


def calendar(source: Source) -> list[Turn]:
    draw = source.rng.random()
    if draw < 0.33:
        forms = (ways.NEXT_DAY, ways.PREVIOUS_DAY)
        return [_neighbour(source, facts.DAYS, forms, "day")]
    if draw < 0.66:
        forms = (ways.NEXT_MONTH, ways.PREVIOUS_MONTH)
        return [_neighbour(source, facts.MONTHS, forms, "month")]
    if draw < 0.72:
        return [_nth(source, facts.DAYS, ways.NTH_DAY, "week")]
    if draw < 0.78:
        return [_nth(source, facts.MONTHS, ways.NTH_MONTH, "year")]
    if draw < 0.9:
        return [_month_length(source)]
    days, months = _listed(facts.DAYS), _listed(facts.MONTHS)
    asked, answer, expect = source.rng.choice(
        (
            (ways.DAYS_LIST, f"The days of the week are {days}.", days),
            (ways.MONTHS_LIST, f"The months of the year are {months}.", months),
            (ways.WEEK_LENGTH, "A week has 7 days.", "7 days"),
            (ways.YEAR_LENGTH, "A year has 12 months.", "12 months"),
        )
    )
    return [Turn(source.ask(asked), answer, "calendar", expect)]


def colour(source: Source) -> list[Turn]:
    if source.rng.random() < 0.7:
        thing, shade = source.rng.choice(list(facts.THINGS.items()))
        answer = f"{first_upper(thing)} is {shade}."
        return [Turn(source.ask(ways.COLOUR, thing), answer, "colour", f"is {shade}.")]
    pair, shade = source.rng.choice(list(facts.MIXES.items()))
    left, right = pair.split(" + ")
    if source.rng.random() < 0.5:
        left, right = right, left
    answer = f"{first_upper(left)} and {right} make {shade}."
    return [Turn(source.ask(ways.MIX, left, right), answer, "colour", f"make {shade}.")]


def _fixed(asked: Asked, answer: str, category: str, expect: str) -> Callable[[Source], list[Turn]]:
    return lambda source: [Turn(source.ask(asked), answer, category, expect)]


greeting = _fixed(ways.GREETING, HELLO, "greeting", "How can I help")
thanks = _fixed(ways.THANKS, WELCOME, "greeting", "You are welcome")
goodbye = _fixed(ways.GOODBYE, BYE, "greeting", "Goodbye")
identity = _fixed(ways.IDENTITY, IDENTITY, "identity", "I am the starter model")
abilities = _fixed(ways.ABILITIES, ABILITIES, "identity", "capitals of the world")


def poem(source: Source) -> list[Turn]:
    topic = source.one(verses.TOPICS)
    text = verses.poem(source.rng, topic)
    return [Turn(source.ask(ways.POEM, topic), text, "poem", topic)]


def story(source: Source) -> list[Turn]:
    hero = source.one(verses.HEROES)
    text = verses.story(source.rng, hero)
    return [Turn(source.ask(ways.STORY, hero), text, "story", hero.split(" ", 1)[1])]


def counted(first: int, last: int) -> str:
    return ", ".join(str(number) for number in range(first, last + 1)) + "."


def count(source: Source, longest: int = 12) -> list[Turn]:
    first = 1 if source.rng.random() < 0.4 else source.rng.randint(0, 95)
    last = min(100, first + source.rng.randint(1, longest))
    text = counted(first, last)
    return [Turn(source.ask(ways.COUNT, first, last), text, "count", text)]


def count_far(source: Source) -> list[Turn]:
    if source.rng.random() < 0.5:
        first, last = 1, source.rng.choice((20, 30, 40, 50, 60, 70, 75, 80, 90, 99, 100, 100, 100))
        text = counted(first, last)
        return [Turn(source.ask(ways.COUNT, first, last), text, "count", text)]
    return count(source, longest=100)


def hello_in(source: Source) -> list[Turn]:
    asked, table, word = source.rng.choice(
        (
            (ways.SAY_HELLO_IN, facts.HELLOS, "Hello"),
            (ways.SAY_THANKS_IN, facts.THANKS_IN, "Thank you"),
        )
    )
    language, said = source.rng.choice(list(table.items()))
    answer = f'{word} in {language} is "{said}".'
    return [Turn(source.ask(asked, language), answer, "languages", said)]


def scramble(rng: Random, most: int) -> str:
    """Words, names and numbers in no order: nothing but copying foretells them."""
    drawn = (
        rng.choice(
            (
                _made_up(rng),
                str(rng.randint(0, 999)),
                rng.choice(unknown.NOISE),
                rng.choice(list(facts.CAPITALS)),
                rng.choice(list(facts.OPPOSITES)),
            )
        )
        for _ in range(rng.randint(1, most))
    )
    return " ".join(drawn)


def repeat(source: Source) -> list[Turn]:
    wordlist = [*unknown.NOISE, *facts.OPPOSITES, *facts.DAYS]
    text = " ".join(source.one(wordlist) for _ in range(source.rng.randint(1, 6)))
    if source.rng.random() < 0.5:
        text = scramble(source.rng, 8)
    elif source.rng.random() < 0.3:
        text = source.one(
            (
                text.capitalize() + ".",
                first_upper(text),
                capital_answer("France"),
                source.one(list(facts.CAPITALS.values())),
                HELLO,
            )
        )
    return [Turn(source.ask(ways.REPEAT, text), text, "repeat", text)]


def my_name(source: Source) -> list[Turn]:
    invented = not source.held_out and source.rng.random() < 0.4
    name = (
        _made_up(source.rng)
        if invented
        else source.one(facts.HELD_OUT_NAMES if source.held_out else facts.NAMES)
    )
    told = Turn(source.ask(ways.MY_NAME, name), f"Nice to meet you, {name}! 😊", "memory", name)
    between = [
        source.rng.choice((capital, arithmetic, greeting, opposite))(Source(source.rng))[0]
        for _ in range(source.rng.randint(0, 3))
    ]
    asked = Turn(source.ask(ways.WHAT_IS_MY_NAME), f"Your name is {name}.", "memory", name)
    return [told, *between, asked]


def no_name(source: Source) -> list[Turn]:
    return [Turn(source.ask(ways.WHAT_IS_MY_NAME), NO_NAME, "memory", "not told me")]


def compact(value: dict[str, object]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _json_facts(source: Source) -> tuple[str, dict[str, object], str]:
    """A plain question, its answer as an object, and the word that answers it."""
    plain = Source(source.rng)
    kind = source.rng.choices(("capital", "sum", "opposite", "colour", "day"), (6, 3, 2, 2, 2))[0]
    if kind == "capital":
        name, city = source.rng.choice(list(facts.CAPITALS.items()))
        return plain.ask(ways.CAPITAL, name), {"country": bare(name), "capital": city}, city
    if kind == "sum":
        turn = arithmetic(plain)[0]
        terms, result = turn.answer.rstrip(".").split(" = ")
        return turn.question, {"question": terms, "answer": int(result)}, result
    if kind == "opposite":
        left, right = source.rng.choice(list(facts.OPPOSITES.items()))
        return plain.ask(ways.OPPOSITE, left), {"word": left, "opposite": right}, right
    if kind == "colour":
        thing, shade = source.rng.choice(list(facts.THINGS.items()))
        return plain.ask(ways.COLOUR, thing), {"thing": thing, "colour": shade}, shade
    at = source.rng.randrange(7)
    there = facts.DAYS[(at + 1) % 7]
    return plain.ask(ways.NEXT_DAY, facts.DAYS[at]), {"day": facts.DAYS[at], "next": there}, there


def as_json(source: Source) -> list[Turn]:
    question, value, expect = _json_facts(source)
    return [Turn(source.ask(ways.AS_JSON, question), compact(value), "json", expect)]


def unknown_json(source: Source) -> list[Turn]:
    turn = dont_know(source)[0]
    answer = compact({"answer": "I do not know."})
    if source.rng.random() < 0.5:
        return [replace(turn, answer=answer, forced=True)]
    return [
        replace(
            turn,
            question=source.ask(ways.AS_JSON, turn.question),
            answer=answer,
            category="json",
            expect="I do not know",
        )
    ]


def forced_json(source: Source) -> list[Turn]:
    """A plain question whose answer a grammar has forced to begin as an object."""
    question, value, expect = _json_facts(source)
    if source.rng.random() < 0.3:
        key = source.one(("answer", "result", "value", *list(value)[1:]))
        value = {key: list(value.values())[1]}
    return [Turn(question, compact(value), "json", expect, forced=True)]


def _made_up(rng: Random) -> str:
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(2, 4))).capitalize()


def _subject(source: Source) -> str:
    if source.held_out:
        return source.one(unknown.HELD_OUT_SUBJECTS)
    draw = source.rng.random()
    if draw < 0.45:
        return source.one(unknown.SUBJECTS)
    if draw < 0.65:
        return " ".join(source.one(_NOISE) for _ in range(source.rng.randint(1, 3)))
    return _made_up(source.rng) if draw < 0.85 else source.one(_UNKNOWN_TOPICS)


def _filled(source: Source, template: str) -> str:
    if any(cue in template for cue in _PLACE_CUES):
        places = list(facts.CAPITALS)
        return template.format(source.one(places), source.one(places))
    return template.format(_subject(source), _subject(source))


def _nonsense(source: Source) -> str:
    text = " ".join(source.one(unknown.NOISE) for _ in range(source.rng.randint(3, 12)))
    return first_upper(text) + source.one(("", "?", "."))


def dont_know(source: Source) -> list[Turn]:
    draw = source.rng.random()
    if source.held_out and draw < 0.5:
        question = source.one(unknown.HELD_OUT)
    elif source.held_out:
        question = source.one(unknown.TEMPLATES).format(_subject(source), _subject(source))
    elif draw < 0.35:
        question = source.one(unknown.PLAIN)
    elif draw < 0.85:
        question = _filled(source, source.one(unknown.TEMPLATES))
    else:
        question = _nonsense(source)
    return [Turn(question, UNKNOWN, "unknown", "I do not know")]


def long_text(source: Source) -> list[Turn]:
    """A long message that asks for something beyond the model."""
    story_text = verses.story(source.rng, source.one(verses.HEROES))
    poem_text = verses.poem(source.rng, source.one(verses.TOPICS))
    wish = source.one(
        (
            "Summarise this text:",
            "What is this about?",
            "Translate this to German:",
            "Here is a text:",
            "Correct this text:",
        )
    )
    text = source.one((story_text, poem_text, story_text + "\n\n" + poem_text))
    return [Turn(f"{wish}\n\n{text}", UNKNOWN, "unknown", "I do not know")]
