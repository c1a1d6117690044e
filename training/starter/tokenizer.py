"""A byte-level BPE vocabulary, learned from the corpus and split as llama.cpp's `smollm` splits."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from random import Random

import answers
import corpus
import facts
import template
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

PRE_TOKENIZER = "smollm"
CONTROL = (template.DOCUMENT_END, template.START, template.END)
# The order of these ids is the order of CONTROL.
DOCUMENT_END_ID, START_ID, END_ID = range(3)
# How many chats the vocabulary is learned from, and how often each fact is added to them, so that
# a name is one token or two.
_CHATS = 20_000
_REPEATED = 12


def learn(seed: int, size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(CONTROL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    rng = Random(seed)
    chats = (corpus.short_chat(rng) for _ in range(_CHATS))
    texts = chain(("".join(piece.text for piece in chat) for chat in chats), _facts() * _REPEATED)
    # The control tokens would otherwise be learned as text.
    tokenizer.train_from_iterator((_without_control(text) for text in texts), trainer)
    return tokenizer


def _facts() -> list[str]:
    told = [
        f'{country}, {answers.capital_answer(country)} {city}\n"{city}" "{country}"'
        for country, city in facts.CAPITALS.items()
    ]
    pairs = [facts.OPPOSITES, facts.THINGS, facts.HELLOS, facts.THANKS_IN]
    told += [f' {left} {right} "{right}"' for table in pairs for left, right in table.items()]
    return told + [f" {word} {word}" for word in (*facts.DAYS, *facts.MONTHS, *facts.NAMES)]


def _without_control(text: str) -> str:
    for token in CONTROL:
        text = text.replace(token, "\n")
    return text


def load(path: Path) -> Tokenizer:
    return Tokenizer.from_file(str(path))
