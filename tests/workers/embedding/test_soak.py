"""Memory stays flat, however many texts go through."""

import json

import pytest

from tests.workers.embedding.conftest import Start
from tests.workers.embedding.running import TOY, Running, read

TEXTS = 20_000
BATCH = 50
SLACK = 8 << 20


def send(worker: Running, count: int) -> None:
    """Send ``count`` texts, all different, over one connection."""
    connection = worker.connect()
    for begin in range(0, count, BATCH):
        body = {"texts": [f"text {number} " + "x" * (number % 90) for number in range(begin, begin + BATCH)]}
        connection.request("POST", "/embed", json.dumps(body))
        assert read(connection.getresponse()).head["count"] == BATCH
    connection.close()


@pytest.mark.parametrize(
    ("module", "flags"),
    [(TOY, ()), ("inglenook.workers.embedding", ("--backend", "deterministic", "--dimension", "64"))],
)
def test_memory_is_flat_over_twenty_thousand_texts(start: Start, module: str, flags: tuple[str, ...]) -> None:
    """The second half of the texts leaves nothing behind that the first did not."""
    worker = start(*flags, module=module)
    send(worker, TEXTS // 2)
    before = worker.resident()
    send(worker, TEXTS // 2)
    assert worker.resident() - before < SLACK
