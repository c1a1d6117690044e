"""What an operator may say, as frozen values. Checked once in ``config.load``; never read at import.

Every field here is a setting: its name, its default, and in its ``help`` what it does and its unit.
The settings reference in the docs is checked against these classes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field, to_builtins

Task = Literal["chat", "embed", "rerank"]


class ServerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[server]``: where we listen, and how long we wait."""

    host: Annotated[str, Meta(description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="port to listen on; 0 takes a free one")] = 8000
    dialect: Annotated[
        str,
        Meta(
            description="be a drop-in for an earlier system, with its environment variables: `aegis`, "
            "`llmservice`, `awa`, `proxy` or `inference`; empty: none"
        ),
    ] = ""
    port_file: Annotated[str, Meta(description="a file that holds the port while we listen; empty: none")] = (
        ""
    )
    idle_shutdown_seconds: Annotated[
        float, Meta(ge=0, description="end after so long without an inference request; 0: never")
    ] = 0.0
    drain_seconds: Annotated[
        float, Meta(ge=0, description="how long running requests may go on after SIGTERM")
    ] = 10.0
    max_body_mb: Annotated[
        float, Meta(gt=0, description="largest request body, in MiB; a larger one is a 413")
    ] = 10.0
    load_timeout_seconds: Annotated[
        float, Meta(gt=0, description="how long a request may wait for its model to load")
    ] = 600.0
    ping_seconds: Annotated[
        float,
        Meta(gt=0, description="a stream with nothing to say sends an SSE comment this often"),
    ] = 10.0
    allowed_hosts: Annotated[
        tuple[str, ...],
        Meta(
            description="names that a request's `Host` and `Origin` may have beside this machine's own; "
            "checked while we listen on loopback only"
        ),
    ] = ()
    cors_origins: Annotated[
        tuple[str, ...],
        Meta(description="origins of web pages that may call us, `*` for all; none: no CORS at all"),
    ] = ()
    cors_credentials: Annotated[
        bool,
        Meta(description="with `*` in `cors_origins`: pages may send credentials, each is named its origin"),
    ] = False
    wait_for_preload: Annotated[
        bool,
        Meta(description="answer nothing until every model with `preload` has loaded, or could not be"),
    ] = False
    tls_cert: Annotated[str, Meta(description="PEM file with our certificate and its chain; HTTPS then")] = ""
    tls_key: Annotated[str, Meta(description="PEM file with its key (PKCS#8, PKCS#1 or SEC1)")] = ""


class SamplingDefaults(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``defaults`` of a model: used where a request leaves the field out."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | UnsetType = UNSET
    top_p: Annotated[float, Meta(ge=0, le=1)] | UnsetType = UNSET
    top_k: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    min_p: Annotated[float, Meta(ge=0, le=1)] | UnsetType = UNSET
    max_tokens: Annotated[int, Meta(ge=1)] | UnsetType = UNSET
    repeat_penalty: Annotated[float, Meta(ge=0)] | UnsetType = UNSET


class ModelSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ``[[models]]``: a model that this server runs itself."""

    id: Annotated[str, Meta(min_length=1, description="the name that clients ask for")]
    path: Annotated[
        str,
        Meta(description="a file, a directory, `hf:owner/repo[:file]`, or `builtin:NAME`"),
    ]
    engine: Annotated[
        str,
        Meta(
            description="`llamacpp`, `sentence_transformers`, `bge_m3`, `cross_encoder`, `static`, "
            "`deterministic` or `echo`; inferred from what is at the path when empty"
        ),
    ] = ""
    tasks: Annotated[
        tuple[Task, ...],
        Meta(description="what it is for: `chat`, `embed`, `rerank`; inferred when empty"),
    ] = ()
    aliases: Annotated[
        tuple[str, ...],
        Meta(description="other names that clients may use for it; `*`: any name that no other model has"),
    ] = ()
    tier: Annotated[
        Literal["", "light", "medium", "heavy", "embedding", "reranker"],
        Meta(description="its place among the models of the `llmservice` dialect"),
    ] = ""
    context: Annotated[
        int,
        Meta(
            ge=0,
            description="tokens that one request may use, prompt and answer together; "
            "0 is the model's own, at most 8192",
        ),
    ] = 0
    parallel: Annotated[int, Meta(ge=1, le=256, description="requests answered at the same time (slots)")] = 4
    threads: Annotated[int, Meta(ge=0, description="CPU threads; 0 lets the engine choose")] = 0
    batch: Annotated[
        int, Meta(ge=0, description="prompt tokens taken in one step; 0 is the engine's default")
    ] = 0
    pooling: Annotated[
        Literal["", "mean", "cls", "last", "max"],
        Meta(description="how an embedding model makes one vector of many; empty: as the model says"),
    ] = ""
    embeddings: Annotated[bool, Meta(description="a llama.cpp model that chats makes embeddings too")] = False
    normalize: Annotated[
        bool | UnsetType,
        Meta(description="whether an embedding has length 1; as the model says when not set"),
    ] = UNSET
    dimension: Annotated[
        int, Meta(ge=8, le=8192, description="length of the vectors of the `deterministic` engine")
    ] = 768
    default_dimensions: Annotated[
        int,
        Meta(ge=0, description="numbers of an embedding where a request gives no `dimensions`; 0: all"),
    ] = 0
    batch_tokens: Annotated[
        int,
        Meta(ge=0, description="most tokens, padding counted, in one batch of texts; 0: the engine's choice"),
    ] = 0
    precision: Annotated[
        Literal["", "float32", "bfloat16"],
        Meta(
            description="what embedding models and rerankers on torch multiply in: `bfloat16` is nearly "
            "twice as fast on CPUs that can, and a little less exact; empty: as the model's files say"
        ),
    ] = ""
    trust_remote_code: Annotated[
        bool, Meta(description="run Python code that comes with the model; only if you trust its author")
    ] = False
    gpu_layers: Annotated[int, Meta(ge=-1, description="layers put on the GPU; -1 is as many as fit")] = -1
    mmap: Annotated[bool, Meta(description="map the file instead of reading it")] = True
    mlock: Annotated[bool, Meta(description="keep the model from being swapped out")] = False
    chat_template: Annotated[
        str,
        Meta(
            description="a template that the engine knows by name, or a Jinja file; empty is the model's own"
        ),
    ] = ""
    mmproj: Annotated[str, Meta(description="the projector file of a model that sees")] = ""
    lora: Annotated[tuple[str, ...], Meta(description="LoRA adapter files, each `FILE` or `FILE:SCALE`")] = ()
    engine_binary: Annotated[
        str, Meta(description="a `llama-server` program to run in place of the built-in engine")
    ] = ""
    args: Annotated[
        tuple[str, ...], Meta(description="extra arguments for the engine, as its own help has them")
    ] = ()
    env: Annotated[dict[str, str], Meta(description="extra environment variables for the engine")] = field(
        default_factory=dict
    )
    defaults: Annotated[SamplingDefaults, Meta(description="sampling values for requests that give none")] = (
        SamplingDefaults()
    )
    max_queue: Annotated[int, Meta(ge=0, description="requests that may wait for a slot; more is a 503")] = (
        512
    )
    queue_seconds: Annotated[
        float, Meta(gt=0, description="how long a request may wait for a slot; longer is a 503")
    ] = 600.0
    fallbacks: Annotated[
        tuple[str, ...],
        Meta(description="models to ask, in this order, when this one cannot answer"),
    ] = ()
    ttl_seconds: Annotated[
        float, Meta(ge=0, description="unload after so long without a request; 0 never does")
    ] = 0.0
    preload: Annotated[bool, Meta(description="load at start, not on first use")] = False
    start_seconds: Annotated[
        float, Meta(gt=0, description="an engine that gives no first token in this time is stopped")
    ] = 600.0
    stop_seconds: Annotated[
        float, Meta(gt=0, description="time between SIGTERM and SIGKILL when it is stopped")
    ] = 5.0


class LimitsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[limits]``: how much one request may ask for."""

    requests_per_minute: Annotated[
        int, Meta(ge=0, description="of each client, over a sliding minute; more is a 429; 0: no limit")
    ] = 0
    tokens_per_minute: Annotated[
        int, Meta(ge=0, description="the same for tokens, prompts and answers together; 0: no limit")
    ] = 0
    concurrency: Annotated[
        int, Meta(ge=0, description="requests of each client at the same time; more is a 429; 0: no limit")
    ] = 0
    max_concurrent_requests: Annotated[
        int,
        Meta(ge=0, description="inference requests of all clients at once; more is a 503; 0: no limit"),
    ] = 0
    max_batch_size: Annotated[
        int, Meta(ge=1, description="most texts to embed, or documents to rerank, in one request")
    ] = 2048
    max_input_chars: Annotated[int, Meta(ge=1, description="most characters of one of them")] = 1_000_000
    max_total_chars: Annotated[int, Meta(ge=1, description="most characters of all of them")] = 5_000_000
    embedding_timeout_seconds: Annotated[
        float,
        Meta(gt=0, description="how long an engine may take to embed or rerank; longer is a 504"),
    ] = 300.0


class UpstreamTimeouts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``timeouts`` of an upstream: seconds that it may keep us waiting without a byte."""

    connect: Annotated[float, Meta(gt=0)] = 5.0
    chat: Annotated[float, Meta(gt=0)] = 600.0
    completions: Annotated[float, Meta(gt=0)] = 600.0
    embeddings: Annotated[float, Meta(gt=0)] = 300.0
    rerank: Annotated[float, Meta(gt=0)] = 300.0
    models: Annotated[float, Meta(gt=0)] = 10.0


class UpstreamSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ``[[upstreams]]``: another server that speaks the OpenAI API."""

    name: Annotated[str, Meta(min_length=1, description="what logs call it")]
    url: Annotated[
        str,
        Meta(description="`http://HOST:PORT`, `https://HOST` or `unix:/PATH`, without the /v1"),
    ]
    models: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1,
            description="the model names that it answers to; `*`: any name that no other model has",
        ),
    ]
    api_key: Annotated[
        str, Meta(description="sent to it as a bearer key; `env:NAME` and `file:PATH` work")
    ] = ""
    timeouts: Annotated[
        UpstreamTimeouts,
        Meta(description="seconds without a byte: connect, chat, completions, embeddings, rerank, models"),
    ] = UpstreamTimeouts()
    retries: Annotated[
        int, Meta(ge=0, le=10, description="further tries of a request that failed before its first byte")
    ] = 2
    backoff_seconds: Annotated[
        float, Meta(ge=0, description="pause before the first further try; doubles with each, with jitter")
    ] = 0.35
    weight: Annotated[
        float, Meta(gt=0, description="its share where several upstreams answer to one model")
    ] = 1.0
    fallbacks: Annotated[
        tuple[str, ...],
        Meta(description="models to ask, in this order, when this upstream cannot answer"),
    ] = ()
    breaker_failures: Annotated[
        int, Meta(ge=0, description="failures in a row after which it is left alone; 0: never")
    ] = 5
    breaker_seconds: Annotated[
        float, Meta(gt=0, description="for how long, until one real request tries it again")
    ] = 30.0


class KeySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of ``auth.keys``. Zero and empty mean: as ``[limits]`` has it, or no limit."""

    key: Annotated[str, Meta(min_length=1, description="the key itself; `env:NAME` and `file:PATH` work")]
    client: Annotated[str, Meta(min_length=1, description="who it belongs to, in logs and limits")]
    models: Annotated[tuple[str, ...], Meta(description="model ids it may use; all when empty")] = ()
    requests_per_minute: Annotated[int, Meta(ge=0, description="over a sliding minute")] = 0
    tokens_per_minute: Annotated[int, Meta(ge=0, description="over a sliding minute")] = 0
    concurrency: Annotated[int, Meta(ge=0, description="requests at the same time")] = 0
    weight: Annotated[float, Meta(gt=0, description="its share of a busy model")] = 1.0


class AuthSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[auth]``: who may ask. Once there is a key, here or in the database, every request needs one."""

    keys: Annotated[
        tuple[KeySettings, ...],
        Meta(
            description="tables of key, client, models, requests_per_minute, tokens_per_minute, "
            "concurrency, weight"
        ),
    ] = ()
    database: Annotated[
        str,
        Meta(
            description="SQLite file of `inglenook keys`; empty: `keys.sqlite` in our data directory; "
            "`none`: there is no file"
        ),
    ] = ""


class CacheSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[cache]``: whole answers kept, to be given again to the same request of the same client."""

    enabled: Annotated[bool, Meta(description="keep answers")] = False
    max_entries: Annotated[int, Meta(ge=1, description="answers kept; the least recently used go first")] = (
        1000
    )
    max_mb: Annotated[float, Meta(gt=0, description="MiB of answers kept, in memory and on disk each")] = (
        256.0
    )
    ttl_seconds: Annotated[float, Meta(gt=0, description="how old an answer may be")] = 3600.0
    directory: Annotated[
        str, Meta(description="keep them on disk too, in a SQLite file in this directory; empty: memory only")
    ] = ""
    shared: Annotated[bool, Meta(description="give one client's answers to another")] = False
    sampled: Annotated[bool, Meta(description="keep answers with a temperature above 0 and no seed too")] = (
        False
    )


class EngineSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[engines]``: programs that stand in for the built-in ones."""

    llama_server: Annotated[str, Meta(description="a `llama-server` program for every llama.cpp model")] = ""


class ApiSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[api]``: the routes below ``/api`` and ``/llm``, which earlier systems had."""

    allowed_models: Annotated[
        tuple[str, ...],
        Meta(
            description="model names that `/api` takes; empty: every model that chats; `*`: these, and what "
            "`model_directory` and the hub have under the name that a client asks for"
        ),
    ] = ()
    model_directory: Annotated[
        str, Meta(description="a directory of GGUF files, found there by their names where `/api` takes all")
    ] = ""
    default_temperature: Annotated[float, Meta(ge=0, le=2, description="of `/api`, where none is given")] = (
        0.7
    )
    default_top_p: Annotated[float, Meta(ge=0, le=1, description="of `/api`, where none is given")] = 0.9
    default_max_tokens: Annotated[int, Meta(ge=1, description="of `/api`, where none is given")] = 512
    max_tokens_limit: Annotated[int, Meta(ge=1, description="more is cut to it, without a word")] = 4096
    max_concurrent_requests: Annotated[
        int, Meta(ge=1, description="requests to `/api` at once; more is a 503 without waiting")
    ] = 10
    llm_binary: Annotated[
        str,
        Meta(
            description="a llama.cpp command-line program that is run once for each `/llm`, with `llm_gguf`; "
            "empty: the first model that chats answers"
        ),
    ] = ""
    llm_gguf: Annotated[str, Meta(description="the GGUF file that `llm_binary` is given")] = ""
    llm_parallel: Annotated[
        int, Meta(ge=1, le=256, description="runs of `llm_binary` at the same time; more wait their turn")
    ] = 4
    llm_timeout_seconds: Annotated[
        float, Meta(gt=0, description="how long a run of `llm_binary` may take; then it is killed")
    ] = 600.0


class HubSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[hub]``: where models are pulled from, and to. Stands above the hub's own ``HF_`` variables."""

    endpoint: Annotated[str, Meta(description="address of a hub or its mirror; empty: `HF_ENDPOINT`")] = ""
    home: Annotated[str, Meta(description="directory of pulled models; empty: `HF_HOME`")] = ""


class TelemetrySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[telemetry]``: what is written about the work. Prompts and keys never are."""

    log_level: Annotated[
        str,
        Meta(pattern="^(debug|info|warning|error|off)$", description="debug, info, warning, error or off"),
    ] = "info"
    log_format: Annotated[
        str,
        Meta(
            pattern="^(json|text|pretty|dashed|stamped|flat)$",
            description="json, text, pretty (colours), dashed (`timestamp - module - level - message`), "
            "stamped (`timestamp level message`), or "
            "flat (JSON with `timestamp`, `level`, `message`, `target`)",
        ),
    ] = "text"
    metrics: Annotated[
        str,
        Meta(pattern="^(open|keys|off)$", description="`/metrics`: open to all, to those with a key, or off"),
    ] = "open"
    otlp_endpoint: Annotated[
        str, Meta(description="OpenTelemetry collector to send traces and metrics to; empty: none")
    ] = ""
    otlp_protocol: Annotated[
        str, Meta(pattern="^(http|grpc)$", description="http (protobuf, port 4318) or grpc (port 4317)")
    ] = "http"
    otlp_optional: Annotated[
        bool,
        Meta(description="start without OpenTelemetry's packages too; tell of a dead collector once only"),
    ] = False
    otlp_headers: Annotated[
        dict[str, str], Meta(description="headers for the collector; `env:NAME` and `file:PATH` work")
    ] = field(default_factory=dict)
    sample_ratio: Annotated[float, Meta(ge=0, le=1, description="share of traces kept, 0 to 1")] = 1.0
    otlp_timeout_seconds: Annotated[
        float, Meta(gt=0, description="how long one export may take, its repeats counted")
    ] = 3.0
    metrics_export_seconds: Annotated[
        float, Meta(gt=0, description="how often metrics are sent to the collector")
    ] = 15.0
    service_name: Annotated[str, Meta(description="what the collector calls us")] = "inglenook"
    service_version: Annotated[str, Meta(description="the version it sees; empty: our own")] = ""
    capture_content: Annotated[
        bool, Meta(description="put prompts and answers into traces; never unless you ask")
    ] = False


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything an operator said, with defaults for the rest."""

    server: ServerSettings = ServerSettings()
    models: tuple[ModelSettings, ...] = ()
    upstreams: tuple[UpstreamSettings, ...] = ()
    engines: EngineSettings = EngineSettings()
    auth: AuthSettings = AuthSettings()
    limits: LimitsSettings = LimitsSettings()
    cache: CacheSettings = CacheSettings()
    api: ApiSettings = ApiSettings()
    hub: HubSettings = HubSettings()
    telemetry: TelemetrySettings = TelemetrySettings()


def masked(settings: Settings) -> dict[str, Any]:
    """The settings as plain data for showing, with every secret replaced by ``***``."""
    shown: dict[str, Any] = to_builtins(settings)
    for upstream in shown["upstreams"]:
        if upstream["api_key"]:
            upstream["api_key"] = "***"
    for key in shown["auth"]["keys"]:
        key["key"] = "***"
    for model in shown["models"]:
        model["env"] = dict.fromkeys(model["env"], "***")
    shown["telemetry"]["otlp_headers"] = dict.fromkeys(shown["telemetry"]["otlp_headers"], "***")
    return shown
