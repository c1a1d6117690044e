"""What a request's trace is made of, before any of OpenTelemetry is there."""

from __future__ import annotations

from inglenook.telemetry.call import Call
from inglenook.telemetry.content import input_messages, output_messages
from inglenook.telemetry.names import GenAI
from inglenook.telemetry.trace import MAX_CONTENT, Trace, Traces
from inglenook.wire import sse
from inglenook.wire.openai import ChatRequest
from inglenook.wire.trace_context import read_parent

PARENT = (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


def test_off_means_none_but_what_came() -> None:
    """No ids are made; a valid header goes on, one of two does not."""
    traces = Traces()
    assert traces.begin([(b"host", b"x")]) is None
    assert traces.begin([PARENT, PARENT]) is None
    came = traces.begin([PARENT, (b"tracestate", b"a=1"), (b"tracestate", b"b=2")])
    assert came is not None
    assert not came.sampled
    assert came.headers == (("traceparent", PARENT[1].decode()), ("tracestate", "a=1,b=2"))
    call = Call("id", "POST", "/", 0.0, trace=came)
    assert call.onward == (("x-request-id", "id"), *came.headers)
    assert Call("id", "POST", "/", 0.0).onward == (("x-request-id", "id"),)


def test_ids_are_new_and_valid() -> None:
    """Every request's own, none of them zero, and the engine's parent is the span of the inference."""
    traces = Traces(on=True)
    made = [traces.begin([]) for _ in range(100)]
    assert len({trace.trace_id for trace in made if trace}) == 100
    for trace in made:
        assert trace is not None
        parent = read_parent(dict(trace.headers)["traceparent"].encode())
        assert parent == (trace.trace_id, trace.engine_span, True)
        assert trace.span_id != trace.engine_span
        assert not trace.parent_id


def test_the_ratio_is_kept_and_a_clients_word_stands_above_it() -> None:
    """Decided by the trace's id, so alike for all who see it."""
    half = Traces(on=True, ratio=0.5)
    sampled = sum(1 for _ in range(2000) if (trace := half.begin([])) and trace.sampled)
    assert 800 < sampled < 1200
    never = Traces(on=True, ratio=0.0)
    came = never.begin([PARENT])
    assert came is not None
    assert came.sampled


def test_what_is_kept_of_a_request_is_bounded_and_has_no_words_unless_asked() -> None:
    """Numbers always; stop sequences, prompt and answer only for content."""
    request = ChatRequest(model="m", messages=[], temperature=0.5, max_tokens=3, stop=["word"])
    for content in (False, True):
        trace = Trace(())
        trace.content = content
        trace.note_request(request, b"{}")
        numbers = {GenAI.TEMPERATURE: 0.5, GenAI.MAX_TOKENS: 3}
        assert trace.asked == (numbers | {GenAI.STOP: ["word"]} if content else numbers)
        assert trace.prompt == (b"{}" if content else b"")
    trace.note_request(request, b"x" * (MAX_CONTENT + 1))
    assert trace.prompt is None
    for _ in range(3):
        trace.note_answer(b"y" * (MAX_CONTENT // 2))
    assert trace.answer is None
    assert trace.size < 2048


def test_content_in_the_conventions_shape() -> None:
    """Chats, prompts, pictures left out, tool calls; streams put together; nonsense is nothing."""
    chat = b"""{"messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content":
        [{"type": "text", "text": "what is it"}, {"type": "image_url", "image_url": {"url": "data:..."}}]}]}"""
    assert input_messages(chat) == (
        '[{"role":"system","parts":[{"type":"text","content":"be kind"}]},'
        '{"role":"user","parts":[{"type":"text","content":"what is it"},{"type":"image_url"}]}]'
    )
    assert input_messages(b'{"prompt": ["a", "b"]}').count('"role":"user"') == 2
    pieces = [
        b'{"choices":[{"index":0,"delta":{"role":"assistant","content":"He"}}]}',
        b'{"choices":[{"index":1,"text":"other"}]}',
        b'{"choices":[{"index":0,"delta":{"content":"llo"},"finish_reason":"stop"}]}',
        b'{"choices":[],"usage":{}}',
        b"[DONE]",
    ]
    assert output_messages(b": ping\n\n" + b"".join(map(sse.event, pieces))) == (
        '[{"role":"assistant","parts":[{"type":"text","content":"Hello"}],"finish_reason":"stop"},'
        '{"role":"assistant","parts":[{"type":"text","content":"other"}],"finish_reason":""}]'
    )
    whole = b'{"choices":[{"message":{"content":null,"tool_calls":[{"id":"1","function":{"name":"f"}}]}}]}'
    assert '{"type":"tool_call","id":"1","name":"f"}' in output_messages(whole)
    assert input_messages(b"\xff") == '[{"role":"user","parts":[]}]'
    assert output_messages(b"{") == "[]"
