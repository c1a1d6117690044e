"""The student: one vector a token; a text is the sum of its tokens. How it starts and how it learns."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass

import numpy as np
import torch
from lesson import GROUP, Lesson
from numpy.typing import NDArray
from torch.nn import functional

DIMENSION = 256


@dataclass(frozen=True)
class Plan:
    """The figures that decide what the student becomes."""

    epochs: int = 4
    batch: int = 256
    """Groups in a batch."""
    rate: float = 1e-3
    prior: float = 3e-3
    """How strongly a token is held to where it began, against one occurrence of it."""
    cosines: float = 20.0
    """Weight of cosines between texts that agree with the teacher's."""
    relatives: float = 4.0
    """The same, of texts of one group."""
    direction: float = 1.0
    """Weight of each text pointing where the teacher's vector points."""
    shrink: float = 4.0
    """Occurrences that a token's vector on its own counts for, beside its states in the corpus."""
    seed: int = 1


@dataclass(frozen=True)
class Start:
    """Where the student begins."""

    table: torch.Tensor
    """[vocabulary, 256]: the first student."""
    basis: torch.Tensor
    """[384, 256]: from the teacher's space to the student's; keeps cosines as far as 256 numbers can."""


def begin(lesson: Lesson, single: NDArray[np.float32], plan: Plan) -> Start:
    """The mean of a token's states in context, on the axes that matter, weighed by how telling it is.

    ``single`` is the teacher's vector of each token alone, for those that are rare in the corpus.
    """
    some = torch.from_numpy(lesson.vectors[:: max(1, len(lesson.vectors) // 100_000)].astype(np.float32))
    values, axes = torch.linalg.eigh(some.T @ some)
    basis = axes[:, values.argsort(descending=True)[:DIMENSION]]
    counts = torch.from_numpy(lesson.counts).float()[:, None]
    mean = (torch.from_numpy(lesson.states) + plan.shrink * torch.from_numpy(single)) / (counts + plan.shrink)
    table = (mean @ basis) * _telling(len(mean))[:, None]
    return Start(table / table.norm(dim=1).mean(), basis)


def _telling(size: int) -> torch.Tensor:
    """Weights by frequency, `a / (a + p)`, with p from Zipf's law: token ids stand in the order of frequency.

    What comes before the words (signs, letters) counts as frequent.
    """
    rank = torch.arange(size).sub(1996).clamp(min=0) + 2.0
    share = 1 / (rank * math.log(size))
    return 1e-3 / (1e-3 + share)


class Student:
    """Learns from a lesson."""

    def __init__(self, lesson: Lesson, start: Start, plan: Plan) -> None:
        self._lesson = lesson
        self._plan = plan
        self._first = start.table
        self.table = start.table.clone().requires_grad_()
        self._wanted = torch.from_numpy(lesson.vectors)
        self._basis = start.basis
        # The prior counts against one occurrence, so its weight in a batch falls with the size of the lesson.
        self._hold = plan.prior / len(lesson.vectors)
        self._ids = torch.from_numpy(lesson.ids.astype(np.int64))
        self._starts = lesson.starts

    def learn(self) -> torch.Tensor:
        """Return the table after all epochs."""
        plan = self._plan
        groups = (len(self._starts) - 1) // GROUP
        steps = plan.epochs * (groups // plan.batch)
        optimizer = torch.optim.Adam([self.table], lr=plan.rate, betas=(0.9, 0.99))
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, plan.rate, total_steps=steps, pct_start=0.05, cycle_momentum=False
        )
        generator = torch.Generator().manual_seed(plan.seed)
        began, step, mean = time.monotonic(), 0, 0.0
        for _ in range(plan.epochs):
            order = torch.randperm(groups, generator=generator)
            for at in range(0, groups - plan.batch + 1, plan.batch):
                loss = self._loss(order[at : at + plan.batch])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                step += 1
                mean += (loss.item() - mean) / min(step, 50)
                if step % 100 == 0:
                    said = f"step {step}/{steps} loss {mean:.4f} {time.monotonic() - began:.0f} s"
                    print(said, file=sys.stderr, flush=True)
        return self.table.detach()

    def _loss(self, groups: torch.Tensor) -> torch.Tensor:
        plan = self._plan
        rows = (groups[:, None] * GROUP + torch.arange(GROUP)).flatten()
        mine = functional.normalize(self._sums(rows))
        theirs = self._wanted[rows].float()
        apart = (mine @ mine.T - theirs @ theirs.T).square()
        blocks = apart.view(len(groups), GROUP, len(groups), GROUP).diagonal(dim1=0, dim2=2)
        direction = 1 - (mine * functional.normalize(theirs @ self._basis)).sum(1).mean()
        hold = (self.table - self._first).square().sum() * self._hold
        alike = plan.cosines * apart.mean() + plan.relatives * blocks.mean()
        return alike + plan.direction * direction + hold

    def _sums(self, rows: torch.Tensor) -> torch.Tensor:
        pieces = [self._ids[self._starts[row] : self._starts[row + 1]] for row in rows.tolist()]
        offsets = torch.tensor([0, *(len(piece) for piece in pieces)]).cumsum(0)[:-1]
        return functional.embedding_bag(torch.cat(pieces), self.table, offsets, mode="sum")
