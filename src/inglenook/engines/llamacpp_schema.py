"""Bounds on JSON schemas. Pure.

llama.cpp turns a schema into a grammar that it walks for every token, on the one thread that serves all
streams of a model: a schema of 20,000 choices stops everybody for minutes. The bounds are OpenAI's.
"""

from __future__ import annotations

from typing import Any

from inglenook.errors import BadRequest

MOST_CHOICES = 1000
MOST_PROPERTIES = 5000
MOST_NODES = 20_000
DEEPEST = 64


def check_schema(schema: Any, param: str) -> None:
    """Raise ``BadRequest`` naming ``param`` when ``schema`` is larger than any honest one."""
    nodes = choices = properties = 0
    waiting = [(schema, 1)] if _is_container(schema) else []
    while waiting:
        node, depth = waiting.pop()
        nodes += 1
        if nodes > MOST_NODES:
            raise _too_large(param, f"{MOST_NODES} parts")
        if depth > DEEPEST:
            raise _too_large(param, f"{DEEPEST} levels")
        if isinstance(node, dict):
            choices += _length(node.get("enum"))
            properties += _length(node.get("properties"))
            waiting += [(child, depth + 1) for child in node.values() if _is_container(child)]
        else:
            waiting += [(child, depth + 1) for child in node if _is_container(child)]
        if choices > MOST_CHOICES:
            raise _too_large(param, f"{MOST_CHOICES} enum values in all")
        if properties > MOST_PROPERTIES:
            raise _too_large(param, f"{MOST_PROPERTIES} properties")


def _is_container(value: Any) -> bool:
    return isinstance(value, (dict, list))


def _length(value: Any) -> int:
    return len(value) if _is_container(value) else 0


def _too_large(param: str, limit: str) -> BadRequest:
    return BadRequest(
        f"The JSON schema in {param} is too large: at most {limit}.", param=param, code="invalid_schema"
    )
