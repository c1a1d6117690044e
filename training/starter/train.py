"""Make the starter model: corpus, vocabulary, network, GGUF. One command, one seed."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path
from random import Random

import corpus
import export
import tokenizer as vocabulary
import torch
import torch.nn.functional as F
from batches import Batch, batches
from model import Shape, Starter
from tokenizers import Tokenizer
from torch import Tensor


@dataclass(frozen=True)
class Plan:
    """How the network is trained. A step reads `rows` x `length` tokens, long or short."""

    seed: int = 1
    drills: int = 260
    steps: int = 1900
    drill_rows: int = 16
    drill_length: int = 128
    rows: int = 16
    length: int = 192
    long_rows: int = 3
    long_length: int = 1024
    long_every: int = 14
    warmup: int = 60
    matrix_rate: float = 0.005
    other_rate: float = 0.003
    weight_decay: float = 0.02
    save_every: int = 200


def lesson(plan: Plan, tokenizer: Tokenizer) -> Iterator[Batch]:
    """Drills first, then the corpus: short rows, and a long one now and then."""
    rng = Random(plan.seed)
    drills = batches(tokenizer, corpus.drills(rng), plan.drill_rows, plan.drill_length)
    short = batches(tokenizer, corpus.short_documents(rng), plan.rows, plan.length)
    long = batches(tokenizer, corpus.long_documents(rng), plan.long_rows, plan.long_length)
    yield from islice(drills, plan.drills)
    for step in count():
        yield next(long if step % plan.long_every == plan.long_every - 1 else short)


def rate(plan: Plan, step: int) -> float:
    """Share of the full learning rate: a short rise, a plateau, and a straight way down."""
    rise = min(1.0, (step + 1) / plan.warmup)
    fall = min(1.0, (plan.steps - step) / (0.7 * plan.steps))
    return rise * fall


def optimizers(network: Starter, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon turns the matrices; the embedding and the norms are AdamW's."""
    matrices = [
        weight
        for name, weight in network.named_parameters()
        if weight.dim() == 2 and name != "embedding.weight"
    ]
    others = [
        weight
        for name, weight in network.named_parameters()
        if weight.dim() != 2 or name == "embedding.weight"
    ]
    return [
        torch.optim.Muon(
            matrices, lr=plan.matrix_rate, weight_decay=plan.weight_decay, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=plan.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def loss_of(network: Starter, batch: Batch) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = network(batch.ids, batch.mask)
        counted = batch.weights > 0
        logits = network.logits(hidden[counted])
    each = F.cross_entropy(logits.float(), batch.targets[counted], reduction="none")
    weights = batch.weights[counted]
    return (each * weights).sum() / weights.sum()


def save(network: Starter, tokenizer: Tokenizer, plan: Plan, step: int, out: Path) -> None:
    torch.save(
        {"shape": asdict(network.shape), "weights": network.state_dict(), "plan": asdict(plan), "step": step},
        out / "checkpoint.pt",
    )
    export.write(network, tokenizer, out / "starter.gguf")


def train(plan: Plan, shape: Shape, tokenizer: Tokenizer, out: Path) -> dict[str, int]:
    torch.manual_seed(plan.seed)
    network = Starter(shape)
    movers = optimizers(network, plan)
    full = [[group["lr"] for group in mover.param_groups] for mover in movers]
    started, recent, tokens = time.monotonic(), 0.0, 0
    for step, batch in zip(range(plan.steps), lesson(plan, tokenizer), strict=False):
        tokens += batch.ids.numel()
        loss = loss_of(network, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for mover, rates in zip(movers, full, strict=True):
            for group, most in zip(mover.param_groups, rates, strict=True):
                group["lr"] = most * rate(plan, step)
            mover.step()
            mover.zero_grad(set_to_none=True)
        recent = loss.item() if step == 0 else 0.95 * recent + 0.05 * loss.item()
        if step % 20 == 0:
            row = {"step": step, "loss": round(recent, 4), "seconds": round(time.monotonic() - started, 1)}
            print(json.dumps(row), flush=True)
        if (step + 1) % plan.save_every == 0:
            save(network, tokenizer, plan, step + 1, out)
    save(network, tokenizer, plan, plan.steps, out)
    return {
        "seconds": round(time.monotonic() - started),
        "tokens": tokens,
        "parameters": sum(weight.numel() for weight in network.parameters()),
    }


def main() -> None:
    plan, shape = Plan(), Shape()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/starter"))
    parser.add_argument("--seed", type=int, default=plan.seed)
    parser.add_argument("--steps", type=int, default=plan.steps)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    plan = Plan(seed=arguments.seed, steps=arguments.steps)
    tokenizer = vocabulary.learn(plan.seed, shape.vocab)
    tokenizer.save(str(arguments.out / "tokenizer.json"))
    measured = train(plan, shape, tokenizer, arguments.out)
    told = {
        **measured,
        "threads": arguments.threads,
        "torch": torch.__version__,
        "plan": asdict(plan),
        "shape": asdict(shape),
    }
    (arguments.out / "training.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
