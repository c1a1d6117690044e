"""Ask the GGUF itself, through llama.cpp and at temperature 0, and write down how it did."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import cases
import corpus
import template
import tokenizer as vocabulary
import unknown
from answers import Source, Turn
from cases import Case
from engine import Engine, Json, serving

_LEAST_VERSE = 200  # characters of a poem or story

Scores = dict[str, dict[str, Any]]


def messages_of(engine: Engine, case: Case) -> list[Json]:
    """The chat so far, with the answers that the model itself gave."""
    messages: list[Json] = []
    if case.system:
        messages.append({"role": "system", "content": case.system})
    for question in case.before:
        messages.append({"role": "user", "content": question})
        answer = engine.chat(messages)["message"]["content"]
        messages.append({"role": "assistant", "content": answer})
    return [*messages, {"role": "user", "content": case.turn.question}]


def _called(choice: Json, case: Case) -> bool:
    calls = choice["message"].get("tool_calls") or []
    if len(calls) != 1 or calls[0]["function"]["name"] != case.tools[0]:
        return False
    return case.turn.expect in json.loads(calls[0]["function"]["arguments"]).values()


def _same_object(text: str, turn: Turn, exact: bool) -> bool:
    try:
        value = json.loads(text)
    except ValueError:
        return False
    if exact:
        return bool(value == json.loads(turn.answer))
    return turn.expect in map(str, value.values()) if isinstance(value, dict) else False


def right(choice: Json, case: Case) -> bool:
    """Whether the answer holds what it must, and ended by itself."""
    if case.turn.category == "calls the tool":
        return _called(choice, case)
    text = choice["message"].get("content") or ""
    if choice["finish_reason"] != "stop":
        return False
    if case.as_object or case.turn.category == "json":
        return _same_object(text, case.turn, exact=not case.as_object)
    if case.turn.category in ("poem", "story"):
        return case.turn.expect in text and len(text) >= _LEAST_VERSE
    if case.turn.category in ("count", "repeat"):
        return bool(text == case.turn.expect)
    return case.turn.expect in text


def asked(engine: Engine, case: Case, **more: Any) -> tuple[bool, str]:
    if case.as_object:
        more["response_format"] = {"type": "json_object"}
    if case.tools:
        more["tools"] = [corpus.tool_definition(name) for name in case.tools]
    choice = engine.chat(messages_of(engine, case), **more)
    said = choice["message"].get("content") or json.dumps(choice["message"].get("tool_calls"))
    return right(choice, case), said


def measure(engine: Engine, chosen: Sequence[Case], **more: Any) -> tuple[Scores, list[Json]]:
    """Scores by category, and what went wrong."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    wrong: list[Json] = []
    for case in chosen:
        good, said = asked(engine, case, **more)
        counts[case.turn.category][0] += good
        counts[case.turn.category][1] += 1
        if not good:
            wrong.append(
                {
                    "category": case.turn.category,
                    "question": case.turn.question,
                    "expected": case.turn.expect,
                    "said": said,
                }
            )
    counts["all"] = [sum(pair[at] for pair in counts.values()) for at in (0, 1)]
    scores = {
        name: {"right": good, "asked": total, "share": round(good / max(total, 1), 4)}
        for name, (good, total) in counts.items()
    }
    return scores, wrong


def tokens_agree(engine: Engine, directory: Path, seed: int, most: int) -> Json:
    """Whether llama.cpp splits text exactly as the vocabulary did in training."""
    ours = vocabulary.load(directory / "tokenizer.json")
    rng = Random(seed)
    texts = ["".join(piece.text for piece in next(corpus.short_documents(rng))) for _ in range(most // 2)]
    texts += [
        *unknown.PLAIN,
        *unknown.HELD_OUT,
        "  two  spaces ",
        "\n\n\ttabs\n",
        "l'été, ça va?",
        "don't I'll we've",
        "👩‍👩‍👧 🇫🇷",
        "x=1;y=22\r\n",
        "¡Ünïcödé! 中文 かな",
        " 12 345 ",
    ]
    same = 0
    for text in texts:
        body = {"content": text, "add_special": False, "parse_special": True}
        same += engine.post("/tokenize", body)["tokens"] == ours.encode(text).ids
    return {"texts": len(texts), "same": same}


def templates_agree(engine: Engine, seed: int) -> Json:
    """Whether llama.cpp renders a chat exactly as the corpus did."""
    rng = Random(seed)
    same, total = 0, 0
    for names in ((), ("search",), ("get_time", "get_weather")):
        tools = [corpus.tool_definition(name) for name in names]
        for system in ("", "Be brief."):
            turn = cases.unseen_sums(rng.randint(0, 99), 1)[0]
            block = template.system_block(system, tools)
            pieces = corpus.conversation(block, [turn, turn])
            ours = "".join(piece.text for piece in pieces[:3])
            messages: list[Json] = [{"role": "system", "content": system}] if system else []
            messages += [
                {"role": "user", "content": turn.question},
                {"role": "assistant", "content": turn.answer},
                {"role": "user", "content": turn.question},
            ]
            body: Json = {"messages": messages, **({"tools": tools} if tools else {})}
            same += engine.post("/apply-template", body)["prompt"] == ours
            total += 1
    return {"chats": total, "same": same}


def suites(seed: int, most: int) -> dict[str, list[Case]]:
    def plain(turns: list[Turn]) -> list[Case]:
        return [Case(turn) for turn in turns]

    return {
        "closed_set": plain(cases.closed_set(seed)),
        "trained_phrasings": plain(cases.turns(Source(Random(seed + 1)), most)),
        "held_out_phrasings": plain(cases.turns(Source(Random(seed + 2), held_out=True), most)),
        "unseen_sums": plain(cases.unseen_sums(seed + 3, 3 * most)),
        "robustness": cases.robustness(seed + 4, most // 2),
        "response_format": cases.objects(seed + 5, most),
        "tools": cases.tool_cases(seed + 6, most // 2),
    }


def evaluate(gguf: Path, seed: int, most: int, say: Callable[[str], None]) -> Json:
    report: Json = {"bytes": gguf.stat().st_size, "scores": {}, "wrong": {}}
    told = gguf.parent / "training.json"
    report["training"] = json.loads(told.read_text()) if told.exists() else None
    chosen = suites(seed, most)
    with serving(gguf) as engine:
        for name, picked in chosen.items():
            scores, wrong = measure(engine, picked)
            report["scores"][name], report["wrong"][name] = scores, wrong
            say(f"{name}: {json.dumps({key: row['share'] for key, row in scores.items()})}")
        sampled, _ = measure(engine, chosen["closed_set"], temperature=0.8, seed=seed)
        report["scores"]["closed_set_at_temperature_0.8"] = sampled
        report["templates"] = templates_agree(engine, seed)
        if (gguf.parent / "tokenizer.json").exists():
            report["tokens"] = tokens_agree(engine, gguf.parent, seed, 400)
    failed = {row["question"] for row in report["wrong"]["closed_set"]}
    report["closed_set"] = [
        {
            "question": case.turn.question,
            "expect": case.turn.expect,
            "category": case.turn.category,
            "right": case.turn.question not in failed,
        }
        for case in chosen["closed_set"]
    ]
    return report


def _write_rows(path: Path, report: Json) -> None:
    """JSON with one closed-set question on each line, so that a change reads well."""
    rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in report["closed_set"])
    head = json.dumps(
        {key: value for key, value in report.items() if key not in ("wrong", "closed_set")}, indent=1
    )
    path.write_text(f'{head[:-2]},\n "closed_set": [\n{rows}\n]\n}}\n', encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gguf", type=Path, help="as train.py left it, among its other files")
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--most", type=int, default=200, help="cases in a category")
    parser.add_argument("--out", type=Path, help="where the scores and the closed set go")
    parser.add_argument("--wrong", type=Path, help="where the wrong answers go")
    arguments = parser.parse_args()
    report = evaluate(arguments.gguf, arguments.seed, arguments.most, print)
    print(json.dumps({key: report[key] for key in ("templates", "tokens") if key in report}))
    if arguments.out:
        _write_rows(arguments.out, report)
    if arguments.wrong:
        arguments.wrong.write_text(json.dumps(report["wrong"], ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
