"""The engine process for embeddings and rerank: `python -m inglenook.workers.embedding --socket PATH ...`.

One model behind HTTP on a unix socket. Texts of all waiting requests share batches, and vectors leave as
binary. In reading order: `flags`, `asking` (bodies to values), `framing` (values to bytes), `batching`
(which texts go together; pure), `jobs` and `waiting` (what waits), `compute` (the thread), `lines` (what
is computed next), `service` (requests to answers), `connection` and `serving` (HTTP), `program` (the life
of the process), and `backends` (the models).
"""
