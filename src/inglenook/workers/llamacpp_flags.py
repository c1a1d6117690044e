"""`llama-server`'s flags, as settings of the library that runs the same server inside our process.

A table: one row for each flag that both have. Names and meanings are those of llama.cpp's
tools/server/README.md; `FlagError` names the first one that is not here.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Params = Any
Library = Any
Apply = Callable[[Params, str], None]

MEND = "Set `engine_binary` to use a llama-server program, which has every flag."

# attribute of the library's parameters, and the flags that set it to a number or a text
NUMBERS = {
    "n_ctx": "-c --ctx-size",
    "n_parallel": "-np --parallel",
    "n_predict": "-n --predict --n-predict",
    "n_batch": "-b --batch-size",
    "n_ubatch": "-ub --ubatch-size",
    "n_keep": "--keep",
    "n_cache_reuse": "--cache-reuse",
    "n_ctx_checkpoints": "-ctxcp --ctx-checkpoints --swa-checkpoints",
    "checkpoint_min_step": "-cms --checkpoint-min-step",
    "n_threads_http": "--threads-http",
    "cpuparams.n_threads": "-t --threads",
    "cpuparams.poll": "--poll",
    "cpuparams_batch.n_threads": "-tb --threads-batch",
    "cache_ram_mib": "-cram --cache-ram",
    "kv_unified_per_slot": "--kv-unified-per-slot",
    "main_gpu": "-mg --main-gpu",
    "fit_params_min_ctx": "-fitc --fit-ctx",
    "yarn_orig_ctx": "--yarn-orig-ctx",
    "embd_normalize": "--embd-normalize",
    "image_min_tokens": "--image-min-tokens",
    "image_max_tokens": "--image-max-tokens",
    "mtmd_batch_max_tokens": "--mtmd-batch-max-tokens",
    "sse_ping_interval": "--sse-ping-interval",
    "sleep_idle_seconds": "--sleep-idle-seconds",
    "port": "--port",
    "verbosity": "-lv --verbosity --log-verbosity",
    "sampling.seed": "-s --seed",
    "sampling.top_k": "--top-k",
    "sampling.penalty_last_n": "--repeat-last-n",
    "sampling.reasoning_budget_tokens": "--reasoning-budget",
    "speculative.draft.n_max": "--spec-draft-n-max",
    "speculative.draft.n_min": "--spec-draft-n-min",
}
FRACTIONS = {
    "rope_freq_base": "--rope-freq-base",
    "rope_freq_scale": "--rope-freq-scale",
    "yarn_ext_factor": "--yarn-ext-factor",
    "yarn_attn_factor": "--yarn-attn-factor",
    "yarn_beta_slow": "--yarn-beta-slow",
    "yarn_beta_fast": "--yarn-beta-fast",
    "slot_prompt_similarity": "-sps --slot-prompt-similarity",
    "sampling.temp": "--temp --temperature",
    "sampling.top_p": "--top-p",
    "sampling.min_p": "--min-p",
    "sampling.penalty_repeat": "--repeat-penalty",
    "sampling.penalty_freq": "--frequency-penalty",
    "sampling.penalty_present": "--presence-penalty",
    "speculative.draft.p_min": "--spec-draft-p-min --draft-p-min",
}
TEXTS = {
    "model.path": "-m --model",
    "mmproj.path": "-mm --mmproj",
    "mmproj_device": "-mmdev --mmproj-device",
    "chat_template": "--chat-template",
    "slot_save_path": "--slot-save-path",
    "api_prefix": "--api-prefix",
    "sampling.samplers": "--samplers",
    "sampling.reasoning_budget_message": "--reasoning-budget-message",
    "speculative.draft.mparams.path": "-md --model-draft --spec-draft-model",
    "tensor_buft_overrides": "-ot --override-tensor",
}
# attribute, the flags that set it, the flags that clear it
SWITCHES = (
    ("kv_unified", "-kvu --kv-unified", "-no-kvu --no-kv-unified"),
    ("ctx_shift", "--context-shift", "--no-context-shift"),
    ("cont_batching", "-cb --cont-batching", "-nocb --no-cont-batching"),
    ("cache_prompt", "--cache-prompt", "--no-cache-prompt"),
    ("cache_idle_slots", "--cache-idle-slots", "--no-cache-idle-slots"),
    ("warmup", "--warmup", "--no-warmup"),
    ("ui", "--ui --webui", "--no-ui --no-webui"),
    ("use_jinja", "--jinja", "--no-jinja"),
    ("prefill_assistant", "--prefill-assistant", "--no-prefill-assistant"),
    ("force_pure_content_parser", "--skip-chat-parsing", "--no-skip-chat-parsing"),
    ("endpoint_slots", "--slots", "--no-slots"),
    ("endpoint_metrics", "--metrics", ""),
    ("endpoint_props", "--props", ""),
    ("embedding", "--embedding --embeddings", ""),
    ("swa_full", "--swa-full", ""),
    ("special", "-sp --special", ""),
    ("check_tensors", "--check-tensors", ""),
    ("lora_init_without_apply", "--lora-init-without-apply", ""),
    ("no_host", "--no-host", ""),
    ("offline", "--offline", ""),
    ("mmproj_use_gpu", "--mmproj-offload", "--no-mmproj-offload"),
    ("no_mmproj", "--no-mmproj --no-mmproj-auto", "--mmproj-auto"),
    ("no_kv_offload", "-nkvo --no-kv-offload", "-kvo --kv-offload"),
    ("no_op_offload", "--no-op-offload", "--op-offload"),
    ("no_extra_bufts", "-nr --no-repack", "--repack"),
    ("no_perf", "--no-perf", "--perf"),
    ("sampling.ignore_eos", "--ignore-eos", ""),
)
# attribute, its flag, the library's enumeration, the prefix of its members, and spellings of our own
CHOICES: tuple[tuple[str, str, str, str, dict[str, str]], ...] = (
    ("flash_attn_type", "-fa --flash-attn", "llama_flash_attn_type", "LLAMA_FLASH_ATTN_TYPE_",
     {"on": "ENABLED", "off": "DISABLED"}),
    ("pooling_type", "--pooling", "llama_pooling_type", "LLAMA_POOLING_TYPE_", {}),
    ("cache_type_k", "-ctk --cache-type-k", "ggml_type", "GGML_TYPE_", {}),
    ("cache_type_v", "-ctv --cache-type-v", "ggml_type", "GGML_TYPE_", {}),
    ("split_mode", "-sm --split-mode", "llama_split_mode", "LLAMA_SPLIT_MODE_", {}),
    ("numa", "--numa", "ggml_numa_strategy", "GGML_NUMA_STRATEGY_", {}),
    ("rope_scaling_type", "--rope-scaling", "llama_rope_scaling_type", "LLAMA_ROPE_SCALING_TYPE_", {}),
    ("lazy_mode", "-lzm --lazy-mode", "llama_lazy_mode", "LLAMA_LAZY_MODE_", {}),
    ("load_mode", "-lm --load-mode", "llama_load_mode", "LLAMA_LOAD_MODE_",
     {"mmap+mlock": "MMAP_MLOCK", "dio": "DIRECT_IO"}),
    ("reasoning_format", "--reasoning-format", "common_reasoning_format", "COMMON_REASONING_FORMAT_",
     {"deepseek-legacy": "DEEPSEEK_LEGACY"}),
)  # fmt: skip
# A model file may bring sampling values of its own; what is said here is marked so that it wins.
SAMPLING_MARKS = {
    "sampling.temp": "TEMP",
    "sampling.top_k": "TOP_K",
    "sampling.top_p": "TOP_P",
    "sampling.min_p": "MIN_P",
    "sampling.penalty_last_n": "PENALTY_LAST_N",
    "sampling.penalty_repeat": "PENALTY_REPEAT",
}
WARNINGS = 2
"""llama.cpp's log level without its eight lines a request; `--verbosity 3` has them."""
EXPERTS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"


class FlagError(Exception):
    """A flag that cannot be used, in one line that names it and the mend."""


@dataclass(frozen=True)
class Flag:
    """What one spelling of a flag does. ``apply`` raises ``ValueError`` for a value it cannot take."""

    takes_value: bool
    apply: Apply


def read_flags(argv: Sequence[str], library: Library) -> Params:
    """The parameters that ``argv`` describes. Raises ``FlagError``."""
    flags = dict(_table(library))
    params = library.CommonParams()
    params.verbosity = WARNINGS
    rest = iter(argv)
    for word in rest:
        # llama-server takes --ctx_size for --ctx-size too.
        name = word.replace("_", "-") if word.startswith("--") else word
        flag = flags.get(name)
        if flag is None:
            raise FlagError(f"unknown argument: {word[:80]}. {MEND}")
        value = next(rest, None) if flag.takes_value else ""
        if value is None:
            raise FlagError(f"{word} needs a value")
        try:
            flag.apply(params, value)
        except (ValueError, OverflowError, OSError) as wrong:
            raise FlagError(f"{word} cannot take this value: {wrong}") from None
    return params


def _table(library: Library) -> Iterator[tuple[str, Flag]]:
    marks = library.common_params_sampling_config.__members__
    for kind, rows in ((int, NUMBERS), (float, FRACTIONS), (str, TEXTS)):
        for path, names in rows.items():
            mark = marks.get(f"COMMON_PARAMS_SAMPLING_CONFIG_{SAMPLING_MARKS.get(path)}", 0)
            yield from _each(names, Flag(True, _setter(path, kind, int(mark))))
    for path, on, off in SWITCHES:
        yield from _each(on, Flag(False, _constant(path, True)))
        yield from _each(off, Flag(False, _constant(path, False)))
    for path, names, enumeration, prefix, ours in CHOICES:
        members = getattr(library, enumeration).__members__
        yield from _each(names, Flag(True, _choice(path, members, prefix, ours)))
    yield from _special(library)


def _special(library: Library) -> Iterator[tuple[str, Flag]]:
    """The flags that are more than one assignment."""
    load = library.llama_load_mode
    takes_value: dict[str, Apply] = {
        "--host": lambda params, value: _set(params, "hostnames", value.split(",")),
        "-a --alias": lambda params, value: _set(params, "model_alias", set(value.split(","))),
        "-ngl --gpu-layers --n-gpu-layers": _gpu_layers,
        "-ts --tensor-split": _tensor_split,
        "-fit --fit": lambda params, value: _set(params, "fit_params", _is_on(value)),
        "-fitt --fit-target": _fit_target,
        "-to --timeout": _timeout,
        "--rope-scale": lambda params, value: _set(params, "rope_freq_scale", 1 / float(value)),
        "--chat-template-file": lambda params, value: _set(
            params, "chat_template", Path(value).read_text(encoding="utf-8")
        ),
        "--chat-template-kwargs": _template_kwargs,
        "-rea --reasoning": _reasoning,
        "--lora": lambda params, value: _add_lora(params, library, value, scaled=False),
        "--lora-scaled": lambda params, value: _add_lora(params, library, value, scaled=True),
        "-ncmoe --n-cpu-moe": _experts_on_cpu,
        "-ngld --gpu-layers-draft --n-gpu-layers-draft --spec-draft-ngl": _draft_gpu_layers,
        "--spec-type": lambda params, value: _speculation(params, library, value),
    }
    for names, apply in takes_value.items():
        yield from _each(names, Flag(True, apply))
    plain: dict[str, Apply] = {
        "--rerank --reranking": lambda params, _: _rerank(params, library),
        "-cmoe --cpu-moe": lambda params, _: _override(params, f"{EXPERTS}=CPU"),
        "-v --verbose --log-verbose": _constant("verbosity", 0x7FFFFFFF),
        # The spellings that llama-server had before --load-mode.
        "--mmap": _constant("load_mode", load.LLAMA_LOAD_MODE_MMAP),
        "--no-mmap": _constant("load_mode", load.LLAMA_LOAD_MODE_NONE),
        "--mlock": _constant("load_mode", load.LLAMA_LOAD_MODE_MMAP_MLOCK),
    }
    for names, apply in plain.items():
        yield from _each(names, Flag(False, apply))


def _each(names: str, flag: Flag) -> Iterator[tuple[str, Flag]]:
    return ((name, flag) for name in names.split())


def _set(params: Params, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        params = getattr(params, parent)
    setattr(params, last, value)


def _setter(path: str, kind: Callable[[str], Any], mark: int) -> Apply:
    def apply(params: Params, value: str) -> None:
        _set(params, path, kind(value))
        if mark:
            params.sampling.user_sampling_config |= mark

    return apply


def _constant(path: str, constant: Any) -> Apply:
    return lambda params, _: _set(params, path, constant)


def _choice(path: str, members: Any, prefix: str, ours: dict[str, str]) -> Apply:
    def apply(params: Params, value: str) -> None:
        member = prefix + ours.get(value, value.upper())
        if member not in members:
            raise ValueError(value)
        _set(params, path, members[member])

    return apply


def _is_on(value: str) -> bool:
    if value not in ("on", "off"):
        raise ValueError(f"{value} is neither on nor off")
    return value == "on"


def _layers(value: str) -> int:
    return {"auto": -1, "all": -2}.get(value) or int(value)


def _gpu_layers(params: Params, value: str) -> None:
    params.n_gpu_layers = _layers(value)


def _draft_gpu_layers(params: Params, value: str) -> None:
    params.speculative.draft.n_gpu_layers = _layers(value)


def _tensor_split(params: Params, value: str) -> None:
    shares = [float(share) for share in value.replace("/", ",").split(",")]
    room = len(params.tensor_split)
    if len(shares) > room:
        raise ValueError(f"at most {room} devices")
    params.tensor_split = shares + [0.0] * (room - len(shares))


def _fit_target(params: Params, value: str) -> None:
    margins = [int(margin) << 20 for margin in value.split(",")]
    room = len(params.fit_params_target)
    if len(margins) > room:
        raise ValueError(f"at most {room} devices")
    if len(margins) == 1:
        margins *= room
    params.fit_params_target = margins + list(params.fit_params_target)[len(margins) :]


def _timeout(params: Params, value: str) -> None:
    params.timeout_read = params.timeout_write = int(value)


def _template_kwargs(params: Params, value: str) -> None:
    given = json.loads(value)
    if not isinstance(given, dict):
        raise ValueError("it must be a JSON object")
    params.default_template_kwargs = {key: json.dumps(item) for key, item in given.items()}


def _reasoning(params: Params, value: str) -> None:
    levels = {"auto": -1, "off": 0, "on": 1}
    if value not in levels:
        raise ValueError(f"{value} is none of on, off and auto")
    params.enable_reasoning = levels[value]


def _add_lora(params: Params, library: Library, value: str, *, scaled: bool) -> None:
    adapters = list(params.lora_adapters)
    for item in value.split(","):
        path, scale = item, "1"
        if scaled:
            path, colon, scale = item.rpartition(":")
            if not colon:
                raise ValueError("it must be FILE:SCALE")
        adapter = library.CommonAdapterLoraInfo()
        adapter.path, adapter.scale = path, float(scale)
        adapters.append(adapter)
    params.lora_adapters = adapters


def _override(params: Params, override: str) -> None:
    before = params.tensor_buft_overrides
    params.tensor_buft_overrides = f"{before},{override}" if before else override


def _experts_on_cpu(params: Params, value: str) -> None:
    for layer in range(int(value)):
        _override(params, rf"blk\.{layer}{EXPERTS}=CPU")


def _rerank(params: Params, library: Library) -> None:
    params.embedding = True
    params.pooling_type = library.llama_pooling_type.LLAMA_POOLING_TYPE_RANK


def _speculation(params: Params, library: Library, value: str) -> None:
    members = library.common_speculative_type.__members__
    names = [f"COMMON_SPECULATIVE_TYPE_{kind.upper().replace('-', '_')}" for kind in value.split(",")]
    if not all(name in members for name in names):
        raise ValueError(value)
    params.speculative.types = [members[name] for name in names]
