"""Write a trained network and its vocabulary as one GGUF file."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import template
import tokenizer as vocabulary
import torch
from model import Shape, Starter
from tokenizers import Tokenizer

_BLOCK_NAMES = {
    "attention_norm": "attn_norm",
    "attention.q": "attn_q",
    "attention.k": "attn_k",
    "attention.v": "attn_v",
    "attention.out": "attn_output",
    "feed_norm": "ffn_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}


def tensor_name(name: str) -> str:
    """The name that llama.cpp gives to a parameter of ours."""
    if name == "embedding.weight":
        return "token_embd.weight"
    if name == "norm.weight":
        return "output_norm.weight"
    _, layer, rest = name.split(".", 2)
    module, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{_BLOCK_NAMES[module]}.{kind}"


def _describe(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_name("Inglenook starter")
    writer.add_description("A demonstration and test subject, trained on generated text.")
    writer.add_license("apache-2.0")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_vocab_size(shape.vocab)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _add_vocabulary(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    described: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(described["vocab"], key=described["vocab"].__getitem__)
    control = set(vocabulary.CONTROL)
    kinds = [gguf.TokenType.CONTROL if token in control else gguf.TokenType.NORMAL for token in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.PRE_TOKENIZER)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in described["merges"]])
    writer.add_eos_token_id(vocabulary.END_ID)
    writer.add_eot_token_id(vocabulary.END_ID)
    writer.add_pad_token_id(vocabulary.DOCUMENT_END_ID)
    writer.add_add_bos_token(False)
    writer.add_chat_template(template.CHAT_TEMPLATE)


def write(network: Starter, tokenizer: Tokenizer, path: Path) -> None:
    """Write beside `path`, then rename: a reader never meets half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    writer = gguf.GGUFWriter(part, "llama")
    _describe(writer, network.shape)
    _add_vocabulary(writer, tokenizer)
    for name, weight in network.state_dict().items():
        values = weight.detach().float().numpy()
        if values.ndim == 1:
            writer.add_tensor(tensor_name(name), np.ascontiguousarray(values))
            continue
        packed = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(tensor_name(name), packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(part, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, help="where train.py left its checkpoint")
    parser.add_argument("gguf", type=Path)
    arguments = parser.parse_args()
    checkpoint = torch.load(arguments.directory / "checkpoint.pt", weights_only=True)
    network = Starter(Shape(**checkpoint["shape"]))
    network.load_state_dict(checkpoint["weights"])
    write(network, vocabulary.load(arguments.directory / "tokenizer.json"), arguments.gguf)


if __name__ == "__main__":
    main()
