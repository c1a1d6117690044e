"""The words and sentence patterns of the text files beside this one, and English endings."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

HERE = Path(__file__).parent
FORMS = ("n", "ns", "v", "vs", "ved", "ving", "a", "r")
"""What a slot may ask for: noun, plural, verb and its three forms, adjective, adverb."""

_IRREGULAR = {
    "be": "was", "become": "became", "begin": "began", "bite": "bit", "bleed": "bled", "blow": "blew",
    "break": "broke", "breed": "bred", "bring": "brought", "build": "built", "burn": "burned",
    "buy": "bought", "catch": "caught", "choose": "chose", "come": "came", "cut": "cut", "deal": "dealt",
    "dig": "dug", "dive": "dived", "do": "did", "draw": "drew", "drink": "drank", "drive": "drove",
    "eat": "ate", "fall": "fell", "feed": "fed", "feel": "felt", "fight": "fought", "find": "found",
    "fit": "fit", "fly": "flew", "forgive": "forgave", "freeze": "froze", "get": "got", "give": "gave",
    "go": "went", "grow": "grew", "have": "had", "hide": "hid", "hold": "held", "hurt": "hurt",
    "keep": "kept", "know": "knew", "lead": "led", "leave": "left", "lend": "lent", "lie": "lied",
    "lose": "lost", "make": "made", "meet": "met", "mow": "mowed", "overthrow": "overthrew",
    "oversleep": "overslept", "pay": "paid", "read": "read", "ride": "rode", "ring": "rang",
    "rise": "rose", "run": "ran", "say": "said", "see": "saw", "sell": "sold", "send": "sent",
    "sew": "sewed", "shake": "shook", "shine": "shone", "shoot": "shot", "shrink": "shrank",
    "sing": "sang", "sink": "sank", "sit": "sat", "sleep": "slept", "sow": "sowed", "speak": "spoke",
    "spend": "spent", "stand": "stood", "steal": "stole", "sweep": "swept", "swell": "swelled",
    "swim": "swam", "take": "took", "teach": "taught", "tell": "told", "think": "thought",
    "throw": "threw", "wake": "woke", "wear": "wore", "win": "won", "write": "wrote",
}  # fmt: skip
_PLURALS = {
    "child": "children", "foot": "feet", "goose": "geese", "knife": "knives", "man": "men",
    "mouse": "mice", "person": "people", "sheep": "sheep", "thief": "thieves", "tooth": "teeth",
    "wife": "wives", "wolf": "wolves", "woman": "women", "deer": "deer", "loaf": "loaves",
    "bacterium": "bacteria", "fungus": "fungi", "series": "series", "species": "species",
    "tomato": "tomatoes", "potato": "potatoes", "volcano": "volcanoes",
}  # fmt: skip
_DOUBLED = re.compile(r"^[^aeiou]*[aeiou][bdgklmnprt]$")


def plural(noun: str) -> str:
    """``noun`` for more than one; of several words the last one changes."""
    start, _, last = noun.rpartition(" ")
    return f"{start} {_PLURALS.get(last, _with_s(last))}".strip()


def _with_s(word: str) -> str:
    if re.search(r"(s|x|z|ch|sh)$", word):
        return word if word.endswith("s") and not word.endswith("ss") else word + "es"
    return word[:-1] + "ies" if re.search(r"[^aeiou]y$", word) else word + "s"


def _of_first(change: Callable[[str], str], verb: str) -> str:
    first, space, rest = verb.partition(" ")
    return change(first) + space + rest


def third(verb: str) -> str:
    return _of_first(lambda word: "has" if word == "have" else _with_s(word), verb)


def _past(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("e"):
        return word + "d"
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ied"
    return word + (word[-1] if _DOUBLED.match(word) else "") + "ed"


def past(verb: str) -> str:
    return _of_first(_past, verb)


def _ing(word: str) -> str:
    if word.endswith("ie"):
        return word[:-2] + "ying"
    if word.endswith("e") and not word.endswith("ee") and len(word) > 2:
        return word[:-1] + "ing"
    return word + (word[-1] if _DOUBLED.match(word) else "") + "ing"


def ing(verb: str) -> str:
    return _of_first(_ing, verb)


def adverb(adjective: str) -> str:
    """The adverb of ``adjective``, where that is one word and an ending makes it."""
    if adjective.endswith("y"):
        return adjective[:-1] + "ily"
    if adjective.endswith("le"):
        return adjective[:-1] + "y"
    return adjective + ("ally" if adjective.endswith("ic") else "ly")


@dataclass(frozen=True)
class Domain:
    """What people write about one subject."""

    name: str
    words: dict[str, list[str]] = field(default_factory=dict)
    """Of each of `FORMS`, the words."""
    learned: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    """Sentence patterns for learning, and for the examination."""


def domains() -> list[Domain]:
    """Read domains.txt."""
    found: list[Domain] = []
    for line in _lines("domains.txt"):
        if line.startswith("["):
            found.append(Domain(line.strip("[]")))
        elif line.startswith("= "):
            found[-1].learned.append(line[2:])
        elif line.startswith("~ "):
            found[-1].held.append(line[2:])
        else:
            form, _, rest = line.partition(": ")
            found[-1].words[form] = [word.strip() for word in rest.split(",")]
    for domain in found:
        _inflect(domain.words)
    return found


def _inflect(words: dict[str, list[str]]) -> None:
    words["ns"] = [plural(noun) for noun in words["n"]]
    words["vs"] = [third(verb) for verb in words["v"]]
    words["ved"] = [past(verb) for verb in words["v"]]
    words["ving"] = [ing(verb) for verb in words["v"]]
    words["r"] = [adverb(word) for word in words["a"] if re.fullmatch(r"[a-z]+", word)]


def frames() -> tuple[list[str], list[str]]:
    """Read frames.txt: patterns for learning, and for the examination."""
    lines = _lines("frames.txt")
    return [it[2:] for it in lines if it[0] == "="], [it[2:] for it in lines if it[0] == "~"]


def scenes() -> list[str]:
    """Read scenes.txt."""
    return [line[2:] for line in _lines("scenes.txt")]


def names() -> dict[str, list[str]]:
    """Read names.txt: "places" and "people"."""
    found: dict[str, list[str]] = {}
    section: list[str] = []
    for line in _lines("names.txt"):
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), [])
        else:
            section.extend(line.split())
    return found


def groups(file: str) -> list[list[str]]:
    """Read a file of groups of sentences, parted by blank lines."""
    text = "\n".join(
        line for line in (HERE / file).read_text("utf-8").splitlines() if not line.startswith("#")
    )
    return [block.splitlines() for block in re.split(r"\n{2,}", text.strip())]


def _lines(file: str) -> list[str]:
    lines = (HERE / file).read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


_CHOICE = re.compile(r"\{([^{}]*)\}")


def choose(pattern: str, rng: Random) -> str:
    """Pick one of each ``{one|another}`` in ``pattern``, the inner ones first."""
    while True:
        pattern, changed = _CHOICE.subn(lambda found: rng.choice(found[1].split("|")), pattern)
        if not changed:
            return pattern
