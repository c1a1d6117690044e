"""The routes of the worker, and what is answered while the model loads."""

import msgspec

from inglenook.workers.embedding.asking import Ask, Json, Refusal, read_embed, read_rerank, refusal_of
from inglenook.workers.embedding.connection import JSON_TYPE, Request, Response
from inglenook.workers.embedding.framing import FRAME_TYPE, frame, total
from inglenook.workers.embedding.service import Service, head_of

METHODS = {"/health": "GET", "/props": "GET", "/counts": "GET", "/embed": "POST", "/rerank": "POST"}


class Routes:
    """Answers every request: with 503 until ``service`` is set, and by its model afterwards."""

    def __init__(self) -> None:
        self.service: Service | None = None
        """Set once, when the model has loaded."""

    async def handle(self, request: Request) -> Response:
        """Answer one request; being cancelled, it leaves nothing behind."""
        try:
            return await self._route(request)
        except Exception as failure:
            refusal = refusal_of(failure)
            return _json(refusal.code, refusal.body)

    async def _route(self, request: Request) -> Response:
        method = METHODS.get(request.path)
        if method is None:
            raise Refusal(404, "not_found_error", "There is no such path.")
        if request.method != method:
            raise Refusal(405, "invalid_request_error", f"This path takes {method}.")
        if self.service is None:
            raise Refusal(503, "unavailable_error", "Loading model")
        match request.path:
            case "/health":
                return _json(200, {"status": "ok"})
            case "/props":
                return _json(200, self.service.props)
            case "/counts":
                return _json(200, self.service.counts)
            case _:
                return await _ask(self.service, request)


async def _ask(service: Service, request: Request) -> Response:
    body = request.body
    ask: Ask = read_embed(body, service.facts) if request.path == "/embed" else read_rerank(body)
    answer = await service.answer(ask)
    vectors = answer.vectors
    dense = () if vectors.dense is None else (vectors.dense,)
    parts = frame(head_of(ask, answer, service.facts), (*dense, *(vectors.colbert or ())))
    return Response(200, FRAME_TYPE, parts, total(parts))


def _json(status: int, value: Json) -> Response:
    body = msgspec.json.encode(value)
    return Response(status, JSON_TYPE, (body,), len(body))
