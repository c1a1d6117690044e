"""Bodies into values, and failures into answers."""

import pytest

from inglenook.workers.embedding.asking import (
    EmbedAsk,
    Refusal,
    RerankAsk,
    read_embed,
    read_rerank,
    refusal_of,
)
from inglenook.workers.embedding.backends.base import BadTokens, Facts, Kind, NotSupported, TooLong
from inglenook.workers.embedding.flags import read_settings

FACTS = Facts(dimension=3, normalized=True, kinds=("dense", "sparse"))


def test_texts_ids_and_pairs_are_read() -> None:
    """What is left out has its default."""
    dense: frozenset[Kind] = frozenset(("dense",))
    assert read_embed(b'{"texts":["a",""]}', FACTS) == EmbedAsk(["a", ""], dense, False)
    both: frozenset[Kind] = frozenset(("dense", "sparse"))
    body = b'{"tokens":[[1,2]],"kinds":["sparse","dense"],"truncate":true,"more":1}'
    assert read_embed(body, FACTS) == EmbedAsk([[1, 2]], both, True)
    assert read_rerank(b'{"query":"a","texts":["b"]}') == RerankAsk("a", ["b"], False)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"nonsense",
        b'{"texts":[]}',
        b'{"texts":"a"}',
        b'{"texts":["a",1]}',
        b'{"texts":["a"],"tokens":[[1]]}',
        b'{"tokens":[[1.5]]}',
        b'{"texts":["a"],"kinds":[]}',
        b'{"texts":["a"],"kinds":["thick"]}',
        b'{"texts":["a"],"truncate":"yes"}',
        b'{"texts":["\\ud800"]}',
        b'{"texts":["\xff"]}',
        b'{"texts":' + b"[" * 100_000,
    ],
)
def test_what_cannot_be_read_is_refused(body: bytes) -> None:
    """Every wrong body is a 400 with a sentence."""
    with pytest.raises(Refusal) as refusal:
        read_embed(body, FACTS)
    assert refusal.value.code == 400
    assert refusal.value.body["error"]["type"] == "invalid_request_error"


def test_kinds_that_the_model_has_not_are_refused() -> None:
    """It is the model that cannot, and the answer says so."""
    with pytest.raises(Refusal, match="no colbert vectors") as refusal:
        read_embed(b'{"texts":["a"],"kinds":["colbert"]}', FACTS)
    assert refusal.value.body["error"]["type"] == "not_supported_error"


@pytest.mark.parametrize("body", [b'{"query":"a"}', b'{"texts":["a"]}', b'{"query":"a","texts":[]}'])
def test_a_rerank_needs_a_query_and_texts(body: bytes) -> None:
    """Both are named when they are missing."""
    with pytest.raises(Refusal):
        read_rerank(body)


@pytest.mark.parametrize(
    ("failure", "code", "kind"),
    [
        (Refusal(404, "not_found_error", "gone"), 404, "not_found_error"),
        (NotSupported("no ids"), 400, "not_supported_error"),
        (BadTokens("bad id"), 400, "invalid_request_error"),
        (RuntimeError("secret"), 500, "server_error"),
    ],
)
def test_failures_have_their_answers(failure: Exception, code: int, kind: str) -> None:
    """What a model says of itself is shown; what it dies of is not."""
    error = refusal_of(failure).body["error"]
    assert (error["code"], error["type"]) == (code, kind)
    assert "secret" not in error["message"]


def test_too_long_names_the_input_and_both_lengths() -> None:
    """That is enough to mend the request."""
    error = refusal_of(TooLong(3, 700, 512)).body["error"]
    assert error == {
        "code": 400,
        "type": "exceed_context_size_error",
        "message": "Input 3 has 700 tokens; the model reads at most 512.",
        "index": 3,
        "n_prompt_tokens": 700,
        "n_ctx": 512,
    }


def test_flags() -> None:
    """Every flag arrives; without them the model decides."""
    needed = ("--socket", "s", "--backend", "bge_m3")
    plain = read_settings(needed)
    assert (plain.socket, plain.backend) == ("s", "bge_m3")
    assert (plain.model.normalize, plain.model.dimension, plain.model.context) == (None, 768, 0)
    flags = "--model m --pooling cls --no-normalize --dimension 8 --trust-remote-code --batch-tokens 9"
    full = read_settings(
        (*needed, *flags.split(), "--threads", "2", "--context", "7", "--precision", "bfloat16")
    ).model
    assert (full.model, full.pooling, full.normalize, full.dimension) == ("m", "cls", False, 8)
    assert (full.trust_remote_code, full.batch_tokens, full.threads, full.context) == (True, 9, 2, 7)
    assert (plain.model.precision, full.precision) == ("", "bfloat16")


@pytest.mark.parametrize(
    "flags", ["--backend x", "--dimension 0", "--precision half", "--threads -1", "--context x"]
)
def test_a_wrong_call_exits_with_2(flags: str) -> None:
    """As every program does."""
    with pytest.raises(SystemExit) as exit_info:
        read_settings(("--socket", "s", "--backend", "static", *flags.split()))
    assert exit_info.value.code == 2
