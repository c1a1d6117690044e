"""llama.cpp's command-line program, run once for each prompt: its arguments, and what its errors mean. Pure.

Contract: the arguments are those of AWA's microservice, in its order. The program loads the model anew for
each prompt; ``engines.llamacpp`` keeps it loaded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from inglenook.engines.base import Launch

THREADS, GPU_LAYERS, CONTEXT = 8, 1, 2048
LONGEST_PROMPT = 128 * 1024 - 1
"""Bytes: Linux takes no longer argument (MAX_ARG_STRLEN)."""
SNIPPET = 500
"""Characters of an error that a client is shown: the last ones."""
_SECRETS = ("INGLENOOK_", "LLM_API_KEY")
_ABSOLUTE = re.compile(r"(?<![\w/:])/+\w[^\s'\",;]*")
_CANNOT_RUN = re.compile(r"workers/leash\.py.*^\w*Error: \[Errno \d+\] ([\w ]+)", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class OncePrompt:
    """What one run is to do. ``max_tokens`` and ``temperature`` are passed on as they are."""

    prompt: str
    max_tokens: int
    temperature: float


@dataclass(frozen=True)
class LlamaCppCli:
    """Facts about the program at ``binary`` with the model at ``gguf``."""

    python: str
    """The interpreter that runs our own workers."""
    binary: str
    gguf: str
    name: str = "llamacpp_cli"

    def launch(self, binary: str, asked: OncePrompt) -> Launch:
        """One run of ``binary``, which is where the program was found."""
        argv = (
            *(binary, "-m", self.gguf, "-p", asked.prompt, "-n", str(asked.max_tokens)),
            *("-t", str(THREADS), "-ngl", str(GPU_LAYERS), "-temp", str(asked.temperature)),
            *("-c", str(CONTEXT), "--silent-prompt", "--silent-eos"),
        )
        # A program of another hand does not watch its parent, so it runs on our leash, which it replaces.
        leash = (self.python, "-P", "-m", "inglenook.workers.leash", "--")
        return Launch((*leash, *argv), unset=_SECRETS)

    def not_there(self) -> str:
        """What a client is told when there is no such program."""
        return (
            "The llama.cpp program is not there, or may not be run. Put it there, name another in "
            "LLM_BIN_PATH (api.llm_binary), or name a GGUF file in LLM_GGUF_PATH alone."
        )

    def failure(self, errors: str, exit_code: int, asked: OncePrompt) -> str:
        """The end of what a failed run wrote to stderr, without the prompt and without paths."""
        if reason := _CANNOT_RUN.search(errors):
            why = reason[1].strip()
            return f"The llama.cpp program cannot be run ({why}). Look at LLM_BIN_PATH (api.llm_binary)."
        for path, word in ((self.binary, "<program>"), (self.gguf, "<model>")):
            errors = errors.replace(path, word) if path else errors
        told = _without_prompt(errors, asked.prompt)
        told = _ABSOLUTE.sub("<path>", told).strip()[-SNIPPET:].strip()
        return told or f"The llama.cpp program ended with {_how(exit_code)} and wrote nothing to stderr."


def _without_prompt(text: str, prompt: str) -> str:
    """``text`` without the prompt or one of its lines; words that merely contain it stay."""
    pieces = {prompt.strip(), *(line.strip() for line in prompt.splitlines())}
    for piece in sorted(filter(None, pieces), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(piece)}(?!\w)", "<prompt>", text)
    return text


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
