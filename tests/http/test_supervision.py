"""What clients see when engines are slow, die, hang or refuse to end; with the shipped echo engine."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.conftest import StartServer
from tests.parts.server import Server, children, is_alive, parse_events, until


def echo(*args: str, **settings: object) -> str:
    """Settings for one echo model called "echo"."""
    lines = ['[[models]]\nid = "echo"\npath = "builtin:echo"', f"args = {json.dumps(args)}"]
    lines += [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    return "\n".join(lines) + "\n"


def engine_of(server: Server) -> int:
    until(lambda: len(server.engines()) == 1, "one engine")
    return server.engines()[0]


def test_fifty_requests_for_a_cold_model_make_one_process(serve: StartServer) -> None:
    """A load is joined, not repeated."""
    server = serve(echo("--load-seconds", "1"))
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda n: server.chat(f"number {n}"), range(50)))
    assert [answer.status for answer in answers] == [200] * 50
    assert {answer.json["choices"][0]["message"]["content"] for answer in answers} == {
        f"number {n}" for n in range(50)
    }
    assert server.log.count("echo is ready") == 1
    assert len(server.engines()) == 1


def test_a_preloaded_model_is_ready_before_the_first_request(serve: StartServer) -> None:
    """`preload` loads at start."""
    server = serve(echo(preload=True))
    until(lambda: server.state() == "ready", "the model to be ready")


def test_an_engine_killed_before_its_first_byte_is_replaced_unseen(serve: StartServer) -> None:
    """The request is repeated on the new process; the client sees one good answer."""
    server = serve(echo("--first-token-seconds", "1"))
    server.chat("warm")
    for stream in (False, True):
        before = server.log.count("echo is ready")
        with ThreadPoolExecutor(1) as pool:
            pending = pool.submit(server.chat, "again", stream=stream)
            until(lambda: busy_slots(server) == 1, "the engine to be at work")
            os.kill(engine_of(server), signal.SIGKILL)
            answer = pending.result()
        assert answer.status == 200
        assert b"again" in answer.body
        assert server.log.count("echo is ready") == before + 1


def test_an_engine_lost_in_mid_stream_ends_with_an_error_event_and_no_done(serve: StartServer) -> None:
    """Nothing looks complete that is not; the next request is served by a new process."""
    server = serve(echo("--token-seconds", "0.05"))
    with server.streaming("a b c d e f g h i j k l m n o p q r s t u v w x y z") as stream:
        while b'" c"' not in stream.readline():
            pass
        os.kill(engine_of(server), signal.SIGKILL)
        rest = stream.read()
    assert list(parse_events(rest))[-1]["error"]["code"] == "engine_lost"
    assert b"[DONE]" not in rest
    assert server.chat("next").status == 200


def test_an_idle_engine_that_is_killed_is_started_again_at_once(serve: StartServer) -> None:
    """A crash is noticed without a request."""
    server = serve(echo())
    server.chat("warm")
    first = engine_of(server)
    os.kill(first, signal.SIGKILL)
    until(lambda: server.log.count("echo is ready") == 2, "a new process")
    assert engine_of(server) != first
    assert "signal 9" in server.log


def test_kill_9_of_the_server_leaves_no_engine_behind(serve: StartServer) -> None:
    """Not even one that ignores SIGTERM."""
    server = serve(echo("--deaf"))
    server.chat("warm")
    engine = engine_of(server)
    server.signal(signal.SIGKILL)
    server.wait()
    until(lambda: not is_alive(engine), "the engine to be gone")


def test_sigterm_lets_a_stream_finish_and_exits_with_0(serve: StartServer) -> None:
    """Draining: what runs goes on to its [DONE], then the server and its engines are gone."""
    server = serve(echo("--token-seconds", "0.1"))
    with server.streaming("one two three four five six seven eight") as stream:
        while b"one" not in stream.readline():
            pass
        engine = engine_of(server)
        server.signal(signal.SIGTERM)
        rest = stream.read()
    assert b"eight" in rest
    assert rest.endswith(b"data: [DONE]\n\n")
    assert server.wait() == 0
    assert not is_alive(engine)


def test_a_stream_longer_than_drain_seconds_is_told_that_it_ends(serve: StartServer) -> None:
    """The deadline of a drain is kept, and the cut is an error event."""
    server = serve("[server]\ndrain_seconds = 0.5\n" + echo("--token-seconds", "1"))
    with server.streaming("one two three four five six seven eight nine ten") as stream:
        while b"one" not in stream.readline():
            pass
        server.signal(signal.SIGTERM)
        rest = stream.read()
    assert b'"shutting_down"' in rest
    assert b"[DONE]" not in rest
    assert server.wait(10) == 0


def test_an_engine_deaf_to_sigterm_is_killed_with_all_it_began(serve: StartServer) -> None:
    """SIGTERM, deadline, SIGKILL, to the whole group."""
    server = serve(echo("--deaf", "--fork-child", stop_seconds=0.5))
    server.chat("warm")
    engine = engine_of(server)
    until(lambda: len(children(engine)) == 1, "the engine's child")
    grandchild = children(engine)[0]
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert not is_alive(engine)
    assert not is_alive(grandchild)


def test_a_failed_start_is_a_503_with_the_engines_last_lines_and_no_path(serve: StartServer) -> None:
    """The log is kept and attached; paths are taken out."""
    server = serve(echo("--fail-load"))
    answer = server.chat("hello")
    assert answer.status == 503
    assert answer.error["code"] == "model_load_failed"
    assert any("error loading model" in line for line in answer.error["engine_log"])
    assert int(answer.headers["retry-after"]) >= 1
    assert b"/" not in answer.body


def test_a_model_that_never_starts_is_given_up_after_five_tries(serve: StartServer) -> None:
    """A crash loop ends; requests are answered at once, with the time to come back."""
    server = serve(echo("--fail-load"))
    for _ in range(5):
        assert server.chat("hello").status == 503
    assert server.state() == "failed"
    starts = server.log.count("failed after")
    answer = server.chat("hello")
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 30
    assert server.log.count("failed after") == starts


def test_a_start_that_failed_once_is_tried_again_by_the_next_request(
    serve: StartServer, tmp_path: Path
) -> None:
    """A passing fault mends itself."""
    server = serve(echo("--fail-load", "--fault-file", str(tmp_path / "count"), "--fault-times", "1"))
    assert server.chat("hello").status == 503
    assert server.chat("hello").status == 200


def test_an_engine_that_hangs_while_loading_is_stopped_in_time(serve: StartServer) -> None:
    """`start_seconds` bounds a start."""
    server = serve(echo("--hang-load", start_seconds=1))
    answer = server.chat("hello")
    assert answer.status == 503
    assert answer.error["code"] == "model_load_failed"
    assert server.engines() == []


def test_a_request_that_waits_too_long_for_a_load_is_a_503_that_says_when(serve: StartServer) -> None:
    """The load goes on; the request is told to come back."""
    server = serve("[server]\nload_timeout_seconds = 0.5\n" + echo("--load-seconds", "3"))
    answer = server.chat("hello")
    assert (answer.status, answer.error["code"]) == (503, "model_loading")
    assert int(answer.headers["retry-after"]) >= 1
    until(lambda: server.state() == "ready", "the load to end")


def test_a_stream_that_waits_for_a_load_is_kept_alive_by_comments(serve: StartServer) -> None:
    """No client or proxy times out while a model loads."""
    server = serve("[server]\nping_seconds = 0.3\n" + echo("--load-seconds", "4"))
    with server.streaming("hello") as stream:
        text = stream.read()
    assert text.count(b": waiting\n\n") >= 2
    assert text.endswith(b"data: [DONE]\n\n")


def test_a_stream_whose_engine_says_nothing_is_kept_alive_by_comments(serve: StartServer) -> None:
    """A long prompt is not a dead engine."""
    server = serve("[server]\nping_seconds = 1\n" + echo("--first-token-seconds", "3"))
    server.chat("warm")
    with server.streaming("hello there") as stream:
        text = stream.read()
    assert b": ping\n\n" in text or b": waiting\n\n" in text
    assert text.endswith(b"data: [DONE]\n\n")


def test_a_client_that_leaves_frees_its_slot(serve: StartServer) -> None:
    """Streaming or not, reading the prompt or writing the answer, waiting for a turn or having one."""
    server = serve(echo("--token-seconds", "60", "--ping-seconds", "1", parallel=1))
    for stream in (True, False):
        connection = server.connect()
        body = {"model": "echo", "stream": stream, "messages": [{"role": "user", "content": "a b c"}]}
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        until(lambda: busy_slots(server) == 1, "the slot to be taken")
        waiting = server.connect()
        waiting.request("POST", "/v1/chat/completions", json.dumps(body))
        waiting.close()
        connection.close()
        until(lambda: busy_slots(server) == 0, "the slot to be free", 2.0)
    until(lambda: server.log.count("outcome=cancelled") == 4, "four cancelled requests in the log")


def test_a_client_that_leaves_behind_a_pipelined_request_frees_its_slot(serve: StartServer) -> None:
    """Bytes of a next request, read or not, do not keep the end of the connection from being seen."""
    server = serve(echo("--token-seconds", "60", "--ping-seconds", "1", parallel=1))
    body = json.dumps({"model": "echo", "messages": [{"role": "user", "content": "a b c"}]}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
    with server.raw() as client:
        client.sendall((head % len(body) + body) * 2)
        until(lambda: busy_slots(server) == 1, "the slot to be taken")
    until(lambda: busy_slots(server) == 0, "the slot to be free", 2.0)
    until(lambda: server.log.count("outcome=cancelled") == 1, "one cancelled request in the log")


def busy_slots(server: Server) -> int:
    """Slots at work in the server's one engine, asked on its own socket."""
    arguments = Path(f"/proc/{engine_of(server)}/cmdline").read_bytes().split(b"\0")
    if b"--socket" not in arguments:
        return 0  # it is not the engine yet: between fork and exec a process has its parent's command line
    path = arguments[arguments.index(b"--socket") + 1]
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(path)
        connection.request("GET", "/slots")
        slots = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
    return sum(slot["is_processing"] for slot in slots)


def test_requests_beyond_the_slots_wait_and_beyond_the_line_are_refused(serve: StartServer) -> None:
    """An engine gets no more than its slots; the line for them is bounded."""
    server = serve(echo("--token-seconds", "0.3", parallel=1, max_queue=1))
    server.chat("warm")
    with server.streaming("a b c d e f g h i j k l m n o p") as stream, ThreadPoolExecutor(2) as pool:
        stream.readline()
        waited, refused = sorted(pool.map(server.chat, ["x", "y"]), key=lambda answer: answer.status)
        stream.read()
    assert waited.status == 200
    assert (refused.status, refused.error["code"]) == (503, "queue_full")
    assert int(refused.headers["retry-after"]) >= 1


def test_a_model_at_rest_is_unloaded_and_comes_back(serve: StartServer) -> None:
    """`ttl_seconds`: the process ends, the memory is free, the next request loads it again."""
    server = serve(echo(ttl_seconds=1))
    server.chat("warm")
    engine = engine_of(server)
    until(lambda: not is_alive(engine), "the engine to be unloaded")
    assert server.state() == "stopped"
    assert server.chat("back").status == 200


def test_a_model_at_work_is_not_unloaded(serve: StartServer) -> None:
    """A long answer is not rest."""
    server = serve(echo("--token-seconds", "0.5", ttl_seconds=1))
    answer = server.chat("one two three four five six seven", stream=True)
    assert answer.events[-1] == "[DONE]"
    assert server.log.count("echo is ready") == 1


def test_models_do_not_disturb_each_other(serve: StartServer) -> None:
    """One engine's death is nobody else's."""
    two = echo("--token-seconds", "0.05") + '[[models]]\nid = "other"\npath = "builtin:echo"\n'
    server = serve(two)
    server.chat("warm")
    first = engine_of(server)
    server.chat("warm", model="other")
    done = threading.Event()
    texts: list[bytes] = []

    def follow() -> None:
        with server.streaming("a b c d e f g h i j k l m n o p") as stream:
            texts.append(stream.readline())
            done.set()
            texts.append(stream.read())

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(follow)
        done.wait(10)
        (other,) = set(server.engines()) - {first}
        os.kill(other, signal.SIGKILL)
        following.result()
    assert texts[-1].endswith(b"data: [DONE]\n\n")
    assert server.chat("back", model="other").status == 200


def test_nothing_is_imported_from_the_working_directory(serve: StartServer, tmp_path: Path) -> None:
    """A folder of the user's that is called like a module does no harm."""
    folder = tmp_path / "server0"
    (folder / "http").mkdir(parents=True)
    (folder / "asyncio.py").write_text("raise SystemExit('imported')")
    server = serve(echo())
    assert server.chat("hello").status == 200
