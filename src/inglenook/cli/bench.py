"""``inglenook bench``: what the server costs, measured beside its alternatives on this machine."""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType

from inglenook.bench import beside, chat, embeddings, engine, gateway, report
from inglenook.bench.processes import BenchError
from inglenook.bench.progress import Line
from inglenook.cli.subcommands import Commands

QUICK_ROUNDS = 3
QUICK_SECONDS = 3.0
QUICK_LATENCY_COUNT = 100


def add_commands(commands: Commands) -> None:
    """Register ``bench`` with its own commands; each leaves its function in ``run``."""
    bench = commands.add_parser("bench", help="measure what the server costs")
    kinds = bench.add_subparsers(title="benchmarks", metavar="BENCHMARK", required=True)
    _add_gateway(kinds)
    _add_engine(kinds)
    _add_embeddings(kinds)
    _add_chat(kinds)


def _add_gateway(kinds: Commands) -> None:
    command = kinds.add_parser(
        "gateway",
        help="the relay beside nginx, other gateways and no gateway at all",
        description="Relay requests to a mock upstream through our server and through others, in paired "
        "rounds. Uses nginx and wrk where they are installed.",
    )
    plan = gateway.Plan()
    _add_rounds(command, plan.rounds)
    command.add_argument("--seconds", type=_positive(float), help=f"of each measurement ({plan.seconds:g})")
    command.add_argument("--quick", action="store_true", help="3 rounds of 3 seconds: a look, not a result")
    command.add_argument("--streams", type=_positive(int), default=plan.streams, help="at once (%(default)s)")
    command.add_argument("--only", type=_names(gateway.SECTIONS), help=", ".join(gateway.SECTIONS))
    known = (*gateway.ARMS, *gateway.PEERS)
    command.add_argument("--arms", type=_names(known), help=", ".join(known))
    command.add_argument(
        "--peers",
        action="store_true",
        help="also LiteLLM and Portkey, installed into a cache directory on first use",
    )
    command.set_defaults(run=gateway_command)


def _add_engine(kinds: Commands) -> None:
    command = kinds.add_parser(
        "engine",
        help="tokens per second through the server beside the engine alone",
        description="Ask one engine process directly and through our server, in paired rounds.",
    )
    command.add_argument("--model", required=True, help="a GGUF file, or what a model's `path` setting takes")
    plan = engine.Plan(model="")
    _add_rounds(command, plan.rounds)
    command.add_argument("--quick", action="store_true", help="3 rounds: a look, not a result")
    command.add_argument(
        "--tokens", type=_positive(int), default=plan.tokens, help="per stream (%(default)s)"
    )
    command.set_defaults(run=engine_command)


def _add_embeddings(kinds: Commands) -> None:
    command = kinds.add_parser(
        "embeddings",
        help="texts per second of any embeddings server, alone or beside sentence-transformers",
        description="Ask POST /v1/embeddings in a closed loop and print one JSON report. Sends "
        "INGLENOOK_API_KEY as the key where it is set.",
    )
    plan = embeddings.Plan()
    add = command.add_argument
    add("--base-url", default=plan.base_url, metavar="URL", help="of the server (%(default)s)")
    add("--model", default=plan.model, help="(%(default)s)")
    add("--requests", type=int, default=plan.requests, help="that are measured (%(default)s)")
    add("--warmup", type=int, default=plan.warmup, help="requests before them (%(default)s)")
    add("--concurrency", type=int, default=plan.concurrency, help="requests at once (%(default)s)")
    add("--batch-size", type=int, default=plan.batch_size, help="texts in a request (%(default)s)")
    add("--input-chars", type=int, default=plan.input_chars, help="characters in a text (%(default)s)")
    add("--timeout-seconds", type=float, default=plan.timeout_seconds, help="per request (%(default)s)")
    add("--output", type=Path, metavar="FILE", help="write the report there too")
    kinds_of_text = (embeddings.FIXED, embeddings.MIXED)
    add(
        "--texts", choices=kinds_of_text, default=plan.texts, help="all of --input-chars, or of mixed lengths"
    )
    add("--compare", type=Path, metavar="DIRECTORY", help="in turn with the library and the model there")
    add("--rounds", type=_positive(int), default=beside.ROUNDS, help="of --compare (%(default)s)")
    add("--against-model", metavar="MODEL", help="with --compare: in turn with this model too")
    add("--against", metavar="URL", help="with --compare: and with this server (default: --base-url)")
    command.set_defaults(run=embeddings_command)


def _add_chat(kinds: Commands) -> None:
    command = kinds.add_parser(
        "chat",
        help="requests per second, latency and tokens of any chat server",
        description="Ask POST /v1/chat/completions in a closed loop and print what it took, a figure a line. "
        "Ends with the first request that is not answered well.",
    )
    plan = chat.Plan()
    add = command.add_argument
    add("--url", default=plan.url, help="of the server (%(default)s)")
    add("--api-key", metavar="KEY", help=f"for it (INGLENOOK_API_KEY, else {plan.api_key})")
    add("--model", default=plan.model, help="(%(default)s)")
    add("--prompt", metavar="TEXT", default=plan.prompt, help="what is asked each time (%(default)s)")
    add("--requests", type=_positive(int), default=plan.requests, help="that are measured (%(default)s)")
    add("--concurrency", type=_positive(int), default=plan.concurrency, help="requests at once (%(default)s)")
    add("--max-tokens", type=_positive(int), default=plan.max_tokens, help="of an answer (%(default)s)")
    add(
        "--stream", action="store_true", help="ask for streams: time to first token, and for each further one"
    )
    add("--warmup", type=int, default=plan.warmup, metavar="N", help="requests before them (%(default)s)")
    add(
        "--timeout-seconds",
        type=_positive(float),
        default=plan.timeout_seconds,
        help="per request (%(default)g)",
    )
    add("--output", type=Path, metavar="FILE", help="write a report there, as JSON")
    command.set_defaults(run=chat_command)


def _add_rounds(command: argparse.ArgumentParser, rounds: int) -> None:
    command.add_argument("--rounds", type=_positive(int), help=f"how many ({rounds})")
    command.add_argument("--seed", type=int, help="of the order of the arms; dealt and told when not given")
    command.add_argument(
        "--nice", type=int, default=0, help="-15 keeps a busy machine's other work away; needs root"
    )
    command.add_argument("--output", type=Path, metavar="FILE", help="write the raw rounds there as JSON")


def gateway_command(arguments: argparse.Namespace) -> int:
    plan = _gateway_plan(arguments)
    _say(f"this takes about {gateway.estimated_seconds(plan):,.0f} seconds")

    def work() -> tuple[str, str]:
        run = gateway.perform(plan, _say)
        return report.table(run), report.document(run, sys.argv)

    return _report(work, arguments.output)


def _gateway_plan(arguments: argparse.Namespace) -> gateway.Plan:
    plan = gateway.Plan()
    quick = arguments.quick
    chosen = arguments.arms or (gateway.ARMS + (gateway.PEERS if arguments.peers else ()))
    return gateway.Plan(
        rounds=arguments.rounds or (QUICK_ROUNDS if quick else plan.rounds),
        seconds=arguments.seconds or (QUICK_SECONDS if quick else plan.seconds),
        warm_seconds=1.0 if quick else plan.warm_seconds,
        streams=arguments.streams,
        latency_count=QUICK_LATENCY_COUNT if quick else plan.latency_count,
        seed=_seed(arguments),
        nice=arguments.nice,
        arms=chosen,
        sections=arguments.only or plan.sections,
    )


def engine_command(arguments: argparse.Namespace) -> int:
    plan = engine.Plan(
        model=arguments.model,
        rounds=arguments.rounds or (QUICK_ROUNDS if arguments.quick else engine.Plan("").rounds),
        tokens=arguments.tokens,
        seed=_seed(arguments),
        nice=arguments.nice,
    )

    def work() -> tuple[str, str]:
        run = engine.perform(plan, _say)
        return engine.table(run), engine.document(run, sys.argv)

    return _report(work, arguments.output)


def embeddings_command(arguments: argparse.Namespace) -> int:
    plan = embeddings.Plan(
        base_url=arguments.base_url,
        model=arguments.model,
        requests=arguments.requests,
        warmup=arguments.warmup,
        concurrency=arguments.concurrency,
        batch_size=arguments.batch_size,
        input_chars=arguments.input_chars,
        timeout_seconds=arguments.timeout_seconds,
        texts=arguments.texts,
        key=os.environ.get("INGLENOOK_API_KEY", ""),
    )
    line = Line(sys.stderr)
    try:
        if arguments.compare:
            other = _against(plan, arguments.against, arguments.against_model)
            told = beside.perform(plan, arguments.compare, arguments.rounds, line, other)
        else:
            told = embeddings.perform(plan, lambda done, total: line("requests", done, total))
    except BenchError as problem:
        line.close()
        print(problem, file=sys.stderr)
        return 1
    finally:
        line.close()
    return _deliver(json.dumps(told, indent=2), arguments.output)


def _against(plan: embeddings.Plan, url: str | None, model: str | None) -> embeddings.Plan | None:
    """The same plan for another server, another model, or both; ``None`` where neither was named."""
    if url is None and model is None:
        return None
    return replace(plan, base_url=url or plan.base_url, model=model or plan.model)


def chat_command(arguments: argparse.Namespace) -> int:
    plan = chat.Plan(
        url=arguments.url,
        api_key=arguments.api_key or os.environ.get("INGLENOOK_API_KEY") or chat.Plan.api_key,
        model=arguments.model,
        prompt=arguments.prompt,
        requests=arguments.requests,
        concurrency=arguments.concurrency,
        max_tokens=arguments.max_tokens,
        stream=arguments.stream,
        warmup=max(0, arguments.warmup),
        timeout_seconds=arguments.timeout_seconds,
    )
    line = Line(sys.stderr)
    try:
        done = chat.perform(plan, lambda count, total: line("requests", count, total))
    except BenchError as problem:
        line.close()
        print(f"inglenook: {problem}", file=sys.stderr)
        return 1
    finally:
        line.close()
    print("\n".join(chat.lines(plan, done)))
    return _write(json.dumps(chat.report(plan, done), indent=2), arguments.output)


def _deliver(document: str, output: Path | None) -> int:
    """Print a report, and write it where it was wished."""
    print(document)
    return _write(document, output)


def _write(document: str, output: Path | None) -> int:
    if output is None:
        return 0
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(document + "\n")
    except OSError as problem:
        print(f"inglenook: the report could not be written: {problem}", file=sys.stderr)
        return 1
    print(f"Wrote benchmark report: {output}", file=sys.stderr)
    return 0


def _seed(arguments: argparse.Namespace) -> int:
    if arguments.seed is not None:
        return int(arguments.seed)
    return random.SystemRandom().randrange(1_000_000)


def _report(work: Callable[[], tuple[str, str]], output: Path | None) -> int:
    """Do the work, which gives table and document; show the one, write the other."""
    if not sys.platform.startswith("linux"):
        print("inglenook: this benchmark reads /proc and needs Linux", file=sys.stderr)
        return 1
    # Told to end, we must end what we started: only an exception runs the `finally` blocks.
    before = {number: signal.signal(number, _end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        table, document = work()
    except BenchError as problem:
        print(f"inglenook: {problem}", file=sys.stderr)
        return 1
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if output:
        output.write_text(document)
    print(table)
    return 0


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _say(line: str) -> None:
    if sys.stderr.isatty():
        print(line, file=sys.stderr)


def _positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = kind(text)
        if value <= 0:
            raise argparse.ArgumentTypeError("must be above 0")
        return value

    return read


def _names(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    """A reader of comma-separated names, in the order of the known ones."""

    def read(text: str) -> tuple[str, ...]:
        given = {part.strip() for part in text.split(",")}
        unknown = given - set(known)
        if unknown:
            raise argparse.ArgumentTypeError(
                f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}"
            )
        return tuple(name for name in known if name in given)

    return read
