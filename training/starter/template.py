"""The chat template: ChatML, with tools told and called in the way that llama.cpp recognises."""

from __future__ import annotations

import json
from typing import Any

START, END, DOCUMENT_END = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
ANSWER_START = f"{START}assistant\n"

_TOOLS_BEFORE = "\n\n# Tools\n\nYou may call these functions:\n<tools>"
_TOOLS_AFTER = (
    "\n</tools>\n\nTo call one, answer with its name and arguments:\n"
    '<tool_call>\n{"name": <name>, "arguments": <arguments>}\n</tool_call>'
)


def _quoted(text: str) -> str:
    return "'" + text.replace("\n", "\\n") + "'"


CHAT_TEMPLATE = """\
{%- if messages[0]['role'] == 'system' %}
{%- set system = messages[0]['content'] %}
{%- else %}
{%- set system = '' %}
{%- endif %}
{%- if tools %}
{{- '<|im_start|>system\\n' + system + TOOLS_BEFORE }}
{%- for tool in tools %}
{{- '\\n' }}{{- tool | tojson }}
{%- endfor %}
{{- TOOLS_AFTER + '<|im_end|>\\n' }}
{%- elif system %}
{{- '<|im_start|>system\\n' + system + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message['role'] == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + message['content'] \
+ '\\n</tool_response><|im_end|>\\n' }}
{%- elif message['role'] == 'assistant' and message['tool_calls'] %}
{{- '<|im_start|>assistant' }}
{%- if message['content'] %}
{{- '\\n' + message['content'] }}
{%- endif %}
{%- for call in message['tool_calls'] %}
{{- '\\n<tool_call>\\n{"name": "' + call['function']['name'] + '", "arguments": ' }}
{{- call['function']['arguments'] | tojson }}
{{- '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- elif message['role'] != 'system' or not loop.first %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
""".replace("TOOLS_BEFORE", _quoted(_TOOLS_BEFORE)).replace("TOOLS_AFTER", _quoted(_TOOLS_AFTER))


def system_block(prompt: str, tools: list[dict[str, Any]]) -> str:
    """The text of a system message, as CHAT_TEMPLATE writes it; empty for nothing."""
    if tools:
        told = "".join("\n" + json.dumps(tool, ensure_ascii=False) for tool in tools)
        return f"{START}system\n{prompt}{_TOOLS_BEFORE}{told}{_TOOLS_AFTER}{END}\n"
    return f"{START}system\n{prompt}{END}\n" if prompt else ""


def user_block(text: str) -> str:
    return f"{START}user\n{text}{END}\n"


def tool_result(text: str) -> str:
    """A tool's answer, as it stands in a user message."""
    return f"<tool_response>\n{text}\n</tool_response>"


def tool_call(name: str, arguments: dict[str, str]) -> str:
    call = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{call}\n</tool_call>"
