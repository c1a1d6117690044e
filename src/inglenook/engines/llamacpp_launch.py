"""How to start llama.cpp's server, and what its last words mean when it does not start. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from inglenook.config.settings import EngineSettings, ModelSettings
from inglenook.engines.base import Launch

CONTEXT = 8192
"""Tokens for one request when nobody has said how many the model was made for."""
BATCH = 512
"""Prompt tokens taken in one step. llama.cpp's own 2048 is no faster, since it computes 512 at a time, but
the other streams wait for a whole step, and a client that leaves frees its slot only after one."""
CACHE_RAM_MIB = 1024
"""Memory that one engine may keep for conversations that lost their slot. llama.cpp's own 8192 would be
taken by every loaded model for itself. `args = ["--cache-ram", "8192"]` raises it, 0 turns it off."""
UNSET = ("LLAMA_",)
"""llama-server reads its flags from variables as well (LLAMA_ARG_HOST, LLAMA_API_KEY, ...)."""
SCALED = re.compile(r".+:-?\d+(\.\d+)?")

_FETCH = "Fetch it again, or look at the model's `path`."
# Searched in the whole log, first match wins: causes stand before the lines that follow from them.
_CAUSES: tuple[tuple[str, str], ...] = (
    (r"unknown argument|invalid argument|needs a value|cannot take this value",
     "The engine does not know one of its arguments. Look at the model's `args`."),
    (r"No module named '?xllamacpp|xllamacpp.*(cannot open shared object|undefined symbol)",
     "The built-in engine is not installed completely. Install `xllamacpp` again."),
    (r"FileNotFoundError|PermissionError|Exec format error",
     "The `llama-server` program cannot be run. Look at `engine_binary` and `engines.llama_server`."),
    (r"couldn't bind|failed to bind|exiting due to HTTP server error",
     "The engine could not listen on its socket."),
    (r"failed to load multimodal|failed to load CLIP|mismatch between text model .* mmproj",
     "The model's `mmproj` file is missing, damaged, or for another model."),
    (r"lora adapter|adapter_lora_init|invalid lora",
     "A `lora` file of the model is missing, damaged, or for another model."),
    (r"chat template parsing error|failed to initialize chat template|chat template is not supported",
     "The model's chat template cannot be used. Set another `chat_template`."),
    (r"quantized V cache|V cache quantization",
     "A quantized V cache needs flash attention. Add `--flash-attn on` to the model's `args`."),
    (r"insufficient memory|failed to allocate|unable to allocate|out of memory|bad_alloc|"
     r"cudaMalloc failed|ErrorOutOfDeviceMemory|cannot allocate memory|failed to fit params",
     "There is not enough memory for the model. Lower its `context`, `parallel` or `gpu_layers`, "
     "or take a smaller one."),
    (r"failed to open GGUF file|No such file or directory",
     "The model's file is not there, or may not be read. Look at its `path`."),
    (r"invalid magic|failed to read magic",
     "The model's file is not a GGUF file. Look at its `path`."),
    (r"GGUF file is version \d+ but|unknown model architecture|unknown pre-tokenizer|unknown type",
     "The model is newer than this engine. Update the engine, or set `engine_binary` to a newer one."),
    (r"mismatch between the host and model endianness|GGUFv1 is no longer supported|bad GGUF version",
     "The model's file has a GGUF version that the engine cannot read. Take a current conversion."),
    (r"file bounds|corrupted or incomplete|failed to read|key not found in model|tensor '.*' not found|"
     r"missing tensor|wrong (number|shape)|invalid ggml type|duplicate|gguf_init",
     f"The model's file is damaged or incomplete. {_FETCH}"),
    (r"failed to load model|error loading model",
     f"The engine could not load the model's file. {_FETCH}"),
)  # fmt: skip
_KILLED = (-9, 137)
_CRASHES = {
    -4: "Its program was built for another processor. Set `engine_binary` to one built for this one.",
    -6: "It gave up on an error of its own.",
    -7: "The file changed or could not be read while it loaded.",
    -11: "It crashed.",
}
_SHELL_OFFSET = 128


def plan(model: ModelSettings, path: str, socket: str, engines: EngineSettings, python: str) -> Launch:
    """The process for ``model``: our worker, or the ``llama-server`` that the operator named."""
    flags = _flags(model, path, socket)
    binary = model.engine_binary or engines.llama_server
    start: tuple[str, ...] = (python, "-m", "inglenook.workers.llamacpp")
    if binary:
        # A program of another hand does not watch its parent, so it runs on our leash.
        start = (python, "-m", "inglenook.workers.leash", "--", binary)
    return Launch((*start, *flags, *model.args), model.env, UNSET)


def _flags(model: ModelSettings, path: str, socket: str) -> Iterator[str]:
    context = model.context or CONTEXT
    yield from ("--model", path, "--host", socket, "--alias", model.id)
    # The server divides one context among its slots; each request is promised all of ``context``.
    yield from ("--ctx-size", str(context * model.parallel), "--parallel", str(model.parallel))
    # Neither may a request take another's share, nor lose its beginning to make room.
    yield from ("--no-kv-unified", "--no-context-shift")
    yield from _task(model, context)
    yield from ("--cache-ram", str(CACHE_RAM_MIB), "--metrics", "--no-webui")
    if model.threads:
        yield from ("--threads", str(model.threads))
    if model.gpu_layers >= 0:
        yield from ("--n-gpu-layers", str(model.gpu_layers))
    yield from _load_mode(model)
    yield from _template(model.chat_template)
    if model.mmproj:
        yield from ("--mmproj", model.mmproj)
    for adapter in model.lora:
        yield from ("--lora-scaled" if SCALED.fullmatch(adapter) else "--lora", adapter)


def _task(model: ModelSettings, context: int) -> Iterator[str]:
    """Steps through the prompt, and what comes of it."""
    if not model.tasks or "chat" in model.tasks:
        batch = model.batch or BATCH
        yield from ("--batch-size", str(batch), "--ubatch-size", str(min(batch, BATCH)))
        if "embed" in model.tasks:
            # A model that was made to chat does not say how it makes one vector of many.
            yield from ("--embeddings", "--pooling", model.pooling or "mean")
        return
    # An encoder reads a text in one step: what is longer than a step is refused, however large the context.
    step = str(max(context, model.batch))
    yield from ("--batch-size", step, "--ubatch-size", step)
    yield "--embeddings" if "embed" in model.tasks else "--rerank"
    if model.pooling:
        yield from ("--pooling", model.pooling)


def _load_mode(model: ModelSettings) -> Iterator[str]:
    # Only said when it is not the default, because older programs do not know the flag.
    if model.mlock:
        yield from ("--load-mode", "mmap+mlock" if model.mmap else "mlock")
    elif not model.mmap:
        yield from ("--load-mode", "none")


def _template(template: str) -> Iterator[str]:
    if not template:
        return
    if "/" in template or template.endswith((".jinja", ".jinja2", ".j2", ".txt")):
        yield from ("--chat-template-file", template)
    elif template == "chatml":
        yield from ("--chat-template", template)
    else:
        # With Jinja on, a name would be taken for the text of a template: the prompt would be the name.
        yield from ("--no-jinja", "--chat-template", template)


def start_failure(log: Sequence[str], exit_code: int | None) -> str:
    """Why a start failed, and the mend, in one or two sentences without a path."""
    if exit_code is None:
        return (
            "The engine gave no first token in time. Raise the model's `start_seconds`, or take a "
            "smaller model."
        )
    if exit_code in _KILLED:
        return (
            "The engine was killed while it loaded, most likely for lack of memory. Lower the model's "
            "`context` or `parallel`, or take a smaller model."
        )
    words = "\n".join(log)
    for pattern, sentence in _CAUSES:
        if re.search(pattern, words, re.IGNORECASE):
            return sentence
    signal = exit_code if exit_code < 0 else _SHELL_OFFSET - exit_code
    crash = _CRASHES.get(signal, "Its last log lines may say why.")
    return f"The engine ended before it was ready (exit code {exit_code}). {crash}"
