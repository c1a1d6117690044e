"""An engine without a model: a program for tests, demos and fault injection.

`python -m inglenook.workers.echo --socket PATH [flags]` speaks the part of llama-server's HTTP API
that the gateway uses, and fails on demand in the ways real engines fail. It needs the standard
library only, and nothing else of ours but the leash that ties every engine process to its parent.
"""
