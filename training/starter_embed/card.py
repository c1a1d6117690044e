"""The model card, from what was measured, so that it holds no figure of another origin."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

_CARD = """\
# starter-embed

`builtin:starter-embed` is a small embedding model that ships inside Inglenook, so that semantic
search works on a fresh install: no download, no torch, {megabytes} MB. Each token of the vocabulary has
one vector; the embedding of a text is the sum of the vectors of its tokens, scaled to length 1.

| | |
|---|---|
| File | `starter-embed.safetensors`, {bytes:,} bytes: int8 vectors, one scale each, vocabulary |
| Dimension | {dimension}, normalised; compare by cosine or dot product |
| Vocabulary | 30,522 token ids of BERT uncased (WordPiece); unknown words are read in pieces |
| Context | any length; an empty text is the zero vector |
| Language | English |
| Licence | Apache-2.0 |

## Teacher

Distilled from [sentence-transformers/all-MiniLM-L6-v2][teacher] (Apache-2.0), by the
sentence-transformers project: its vocabulary, and through its answers what it knows. With thanks.

[teacher]: https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2

## Agreement with the teacher

Spearman's rank correlation between the cosines of this model and the teacher's, through the code that
serves it, on pairs from near-duplicates to unrelated. None of the sentences was used to make it.

| pairs | texts | pairs | all | related pairs only |
|---|---|---|---|---|
| written by hand, everyday subjects | {hand[texts]:,} | {hand[pairs]:,} | **{hand[spearman]:.3f}** | \
{hand[spearman_related]:.3f} ({hand[related_pairs]:,}) |
| generated, from patterns kept back | {gen[texts]:,} | {gen[pairs]:,} | **{gen[spearman]:.3f}** | \
{gen[spearman_related]:.3f} ({gen[related_pairs]:,}) |

The sentences written by hand tell more: those generated share the generator's manner, and most of its
words, with what the model learned from. Both sets are in `tests/workers/embedding`, where the test
suite repeats this measurement.

## How it was made

`training/starter_embed` writes texts from patterns and from the words of the teacher's own vocabulary,
{texts:,} of them ({tokens:,} tokens); no text was downloaded. A token begins as the mean of the teacher's last
states at its occurrences, on the {dimension} axes that carry most of the teacher's space, weighed by how
rare it is. Then the vectors are trained until the cosines between texts, and the direction of each, follow
the teacher's. {teacher_minutes:.0f} minutes for the teacher and {student_minutes:.0f} for the student, with {threads} \
thread of a shared machine.

## Limits

- The order of words is not seen: "the dog bit the man" and "the man bit the dog" are the same text.
  Negation hardly counts.
- A word has one vector for all its meanings (bank, match, spring).
- Names, numbers and words that are not in the vocabulary are the sum of their pieces.
- Other languages than English are matched by their letters at best.
- Long texts turn into a mean of all that they are about; split them into passages.
- It inherits what its teacher learned from texts of the web, prejudices included.

Where quality matters more than size, use all-MiniLM-L6-v2 itself, or a larger model.
"""


def card(report: Json) -> str:
    """The card that goes with the figures of ``report``."""
    return _CARD.format(
        megabytes=f"{report['bytes'] / 1e6:.1f}",
        hand=report["agreement"]["handwritten"],
        gen=report["agreement"]["generated"],
        bytes=report["bytes"],
        dimension=report["dimension"],
        **{name: report["made"][name] for name in _FROM_MADE},
    )


_FROM_MADE = ("texts", "tokens", "teacher_minutes", "student_minutes", "threads")
