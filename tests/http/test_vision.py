"""Images in a chat with a model that sees: a real llama.cpp with random eyes, made here."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inglenook.store.gguf import read_header
from tests.conftest import StartServer
from tests.parts.gguf import IMAGE_TOKENS, STARTER, write_projector
from tests.parts.server import Answer, Server, start

RED, BLUE = (255, 0, 0), (0, 0, 255)
QUESTION = "What is the capital of France?"
# One grey pixel.
JPEG = (
    "data:image/jpeg;base64,/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAP///////////////////////////////////////"
    "///////////////////////////////////////////////wAALCAABAAEBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAAv/EA"
    "BQQAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQEAAD8AT//Z"
)
URL = "messages[0].content[1].image_url.url"


def png(width: int, height: int, color: tuple[int, int, int] = RED) -> bytes:
    rows = zlib.compress((b"\0" + bytes(color) * width) * height)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bmp(width: int, height: int, row: bytes = b"") -> bytes:
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + row


def gif(width: int, height: int) -> bytes:
    """One blue pixel on a screen of the given size."""
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes((*BLUE, 0, 0, 0))
    return b"GIF89a" + screen + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00\x3b"


def jpeg(width: int, height: int, before: int = 0) -> bytes:
    """A JPEG without a picture, with ``before`` bytes of comments before its size."""
    comment = b"\xff\xfe\xff\xff" + bytes(0xFFFD)
    frame = b"\xff\xc0\x00\x0b\x08" + struct.pack(">HH", height, width) + b"\x01\x01\x11\x00"
    return b"\xff\xd8" + comment * (before // len(comment)) + frame + b"\xff\xd9"


def url(image: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def ask(server: Server, *urls: str, **fields: Any) -> Answer:
    content: list[Any] = [{"type": "text", "text": QUESTION}]
    content += [{"type": "image_url", "image_url": {"url": one}} for one in urls]
    request = {"model": "eyes", "messages": [{"role": "user", "content": content}], "max_tokens": 3}
    return server.ask("POST", "/v1/chat/completions", request | {"temperature": 0} | fields)


def first_logprobs(server: Server, *urls: str) -> dict[str, float]:
    answer = ask(server, *urls, logprobs=True, top_logprobs=5, cache_prompt=False)
    assert answer.status == 200, answer.body
    first = answer.json["choices"][0]["logprobs"]["content"][0]
    return {token["token"]: token["logprob"] for token in first["top_logprobs"]}


def prompt_tokens(server: Server, *urls: str) -> int:
    tokens: int = ask(server, *urls).json["usage"]["prompt_tokens"]
    return tokens


def settings(projector: Path) -> str:
    return f'[[models]]\nid = "eyes"\npath = "builtin:starter"\nthreads = 1\nmmproj = {json.dumps(str(projector))}\n'


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose model sees."""
    directory = tmp_path_factory.mktemp("eyes")
    projector = write_projector(directory / "mmproj.gguf", read_header(STARTER).embedding_length)
    server = start(settings(projector), directory, ())
    yield server
    server.end()


def test_an_image_is_part_of_the_prompt(eyes: Server) -> None:
    """The usage counts the image's own tokens, once for each image."""
    text = prompt_tokens(eyes)
    assert prompt_tokens(eyes, url(png(40, 30))) == text + IMAGE_TOKENS
    assert prompt_tokens(eyes, url(png(40, 30)), url(png(3, 5, BLUE))) == text + 2 * IMAGE_TOKENS


def test_what_is_seen_changes_the_answer(eyes: Server) -> None:
    """Another image gives other probabilities, the same one the same."""
    blind, red, blue = (
        first_logprobs(eyes, *urls) for urls in ((), (url(png(9, 9)),), (url(png(9, 9, BLUE)),))
    )
    assert red != blue
    assert blind not in (red, blue)
    assert first_logprobs(eyes, url(png(9, 9))) == red


def test_a_stream_about_an_image(eyes: Server) -> None:
    """Events as for any chat, with the image in their usage."""
    answer = ask(eyes, url(png(9, 9)), stream=True, stream_options={"include_usage": True})
    assert answer.status == 200
    *_, last, done = answer.events
    assert done == "[DONE]"
    assert last["usage"]["prompt_tokens"] == prompt_tokens(eyes) + IMAGE_TOKENS


@pytest.mark.parametrize(
    "image",
    [
        url(bmp(1, 1, bytes(4)), "bmp"),
        url(bmp(1, -1, bytes(4)), "bmp"),
        url(gif(1, 1), "gif"),
        url(png(1, 1)).rstrip("="),
        JPEG,
    ],
)
def test_other_formats_are_seen_too(eyes: Server, image: str) -> None:
    """What the engine's decoder reads is let through, also without base64's padding."""
    assert prompt_tokens(eyes, image) == prompt_tokens(eyes) + IMAGE_TOKENS


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ("http://127.0.0.1:9/cat.png", "data: URL"),
        ("https://example.org/cat.png", "data: URL"),
        ("file:///etc/hostname", "data: URL"),
        ("data:", "data:image/png;base64,"),
        ("data:text/plain;base64,aGVsbG8=", "data:image/png;base64,"),
        ("data:image/png,hello", "data:image/png;base64,"),
        ("data:image/png;base64,", "not base64"),
        ("data:image/png;base64,iVBOR!!!", "not base64"),
        ("data:image/png;base64,iVBORwé", "not base64"),
        (url(b"hello, this is not an image"), "damaged, or not"),
        (url(b"#EXTM3U\nfile:///etc/hostname\n"), "damaged, or not"),
        (url(b"RIFF\0\0\0\0WEBPVP8 "), "damaged, or not"),
        (url(png(1, 1)[:12]), "damaged, or not"),
        (url(png(0, 0)), "damaged, or not"),
        (url(b"\xff\xd8\xff" + bytes(400_000)), "damaged, or not"),
        (url(png(40, 30)[:60]), "damaged, or not"),
        (url(jpeg(8, 8)[:9]), "damaged, or not"),
        (url(jpeg(8, 8)[:-1]), "damaged, or not"),
    ],
)
def test_what_is_no_image_is_refused_by_name(eyes: Server, image: str, says: str) -> None:
    """The part to mend is named, and nothing is fetched or opened."""
    answer = ask(eyes, url(png(1, 1)), image)
    assert (answer.status, answer.error["param"]) == (400, URL.replace("[1]", "[2]"))
    assert says in answer.error["message"]
    assert ask(eyes).status == 200


def test_an_image_that_only_the_engine_knows_to_be_broken_is_refused(eyes: Server) -> None:
    """All that can be seen from outside is right; the engine lives on."""
    before = eyes.engines()
    whole = png(40, 30)
    answer = ask(eyes, url(whole[:33] + whole[-12:]))
    assert (answer.status, answer.error["param"]) == (400, "messages")
    assert ask(eyes).status == 200
    assert eyes.engines() == before


@pytest.mark.parametrize(
    "image",
    [
        png(0, 0).replace(bytes(8), struct.pack(">II", 10_000, 10_000)),
        bmp(10_000, -10_000),
        gif(10_000, 10_000),
        jpeg(10_000, 10_000),
        jpeg(10_000, 10_000, before=500_000),
        png(70_000, 1),
    ],
)
def test_an_image_that_is_much_larger_than_its_file_is_refused(eyes: Server, image: bytes) -> None:
    """The engine would take half a gigabyte for each of them."""
    answer = ask(eyes, url(image))
    assert (answer.status, answer.error["param"]) == (400, URL)
    assert "pixels" in answer.error["message"]


def test_the_images_of_a_request_are_bounded_together(eyes: Server) -> None:
    """Each may be large, not all of them."""
    answer = ask(eyes, *[url(gif(5000, 5000), "gif")] * 3)
    assert (answer.status, answer.error["param"]) == (400, URL.replace("[1]", "[3]"))


def test_sound_for_a_model_that_only_sees_is_refused(eyes: Server) -> None:
    """A 400 from the engine, in our words."""
    part = {"type": "input_audio", "input_audio": {"data": "aGVsbG8=", "format": "wav"}}
    request = {"model": "eyes", "messages": [{"role": "user", "content": [part]}]}
    answer = eyes.ask("POST", "/v1/chat/completions", request)
    assert (answer.status, answer.error["param"]) == (400, "messages")
    assert "sound" in answer.error["message"]


def test_what_is_no_image_never_reaches_ffmpeg(
    serve: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """llama.cpp would try it as a film, and a film may be a list of other files and addresses."""
    seen = tmp_path / "seen"
    for name in ("ffmpeg", "ffprobe"):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\ntouch {seen}\nexit 1\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    projector = write_projector(tmp_path / "mmproj.gguf", read_header(STARTER).embedding_length)
    assert ask(serve(settings(projector)), url(b"#EXTM3U\nfile:///etc/hostname\n")).status == 400
    assert not seen.exists()


@pytest.mark.parametrize("content", [b"", b"not a projector", STARTER.read_bytes()[:4000]])
def test_a_wrong_projector_is_a_503_that_names_the_setting(
    serve: StartServer, tmp_path: Path, content: bytes
) -> None:
    """Nothing, rubbish, or another kind of file; and no path in the answer."""
    projector = tmp_path / "mmproj.gguf"
    projector.write_bytes(content)
    refused(ask(serve(settings(projector))), tmp_path)


def test_a_projector_of_another_model_is_a_503_that_names_the_setting(
    serve: StartServer, tmp_path: Path
) -> None:
    """Its numbers for a token are as many as the other model's."""
    projector = write_projector(tmp_path / "mmproj.gguf", 2 * read_header(STARTER).embedding_length)
    refused(ask(serve(settings(projector))), tmp_path)


def refused(answer: Answer, directory: Path) -> None:
    assert (answer.status, answer.error["code"]) == (503, "model_load_failed")
    assert "`mmproj`" in answer.error["message"]
    assert str(directory).encode() not in answer.body
