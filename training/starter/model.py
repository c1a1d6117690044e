"""The network: a small Llama, laid out exactly as llama.cpp's `llama` architecture computes it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# How a network starts that is to learn copying early: its first blocks own a head that looks one
# token back, by the fastest pairs of RoPE.
_LOOK_BACK_BLOCKS = 2
_LOOK_BACK_PAIRS = 6
_LOOK_BACK_STRENGTH = 3.0


@dataclass(frozen=True)
class Shape:
    """Sizes of the network. Every matrix width is a multiple of 32, the Q8_0 block."""

    vocab: int = 3072
    width: int = 192
    layers: int = 6
    heads: int = 6
    kv_heads: int = 2
    feed_forward: int = 512
    context: int = 2048
    rope_base: float = 10000.0
    norm_eps: float = 1e-5

    @property
    def head_width(self) -> int:
        return self.width // self.heads


def rope_table(shape: Shape, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of every position, one column per pair of neighbouring channels."""
    half = torch.arange(0, shape.head_width, 2, dtype=torch.float32)
    turns = shape.rope_base ** (-half / shape.head_width)
    angles = torch.outer(torch.arange(length).float(), turns)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn channels (2i, 2i+1) together: llama.cpp's NORM convention, so no weight is permuted."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        kv_width = shape.kv_heads * shape.head_width
        # The biases let a head attend by distance alone, whatever the tokens are.
        self.q = nn.Linear(shape.width, shape.width)
        self.k = nn.Linear(shape.width, kv_width)
        self.v = nn.Linear(shape.width, kv_width, bias=False)
        self.out = nn.Linear(shape.width, shape.width, bias=False)

    @torch.no_grad()
    def start_biases(self, looks_back: bool) -> None:
        """Random biases; with `looks_back` the first head begins on the token before."""
        nn.init.normal_(self.q.bias, std=0.5)
        nn.init.normal_(self.k.bias, std=0.5)
        if looks_back:
            head = self.shape.head_width
            cos, sin = rope_table(self.shape, 2)
            strength = torch.zeros(head // 2)
            strength[:_LOOK_BACK_PAIRS] = _LOOK_BACK_STRENGTH
            turned = torch.stack((strength * cos[1], -strength * sin[1]), dim=-1)
            self.q.bias[:head] += turned.flatten()
            self.k.bias[0:head:2] += strength

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        """`mask` is added to the scores. On a CPU this is faster than the fused attention."""
        rows, length, width = x.shape
        heads, groups, head_width = self.shape.heads, self.shape.kv_heads, self.shape.head_width
        per_head = (rows, length, -1, head_width)
        v = self.v(x).view(per_head).transpose(1, 2)
        q = rotate(self.q(x).view(per_head).transpose(1, 2), cos, sin) * head_width**-0.5
        k = rotate(self.k(x).view(per_head).transpose(1, 2), cos, sin).to(v.dtype)
        # The heads that share keys and values are read as one longer sequence.
        shared = (rows, groups, heads // groups * length, -1)
        scores = q.to(v.dtype).reshape(shared) @ k.transpose(-1, -2)
        scores = scores.view(rows, heads, length, length) + mask.to(v.dtype)
        chosen = torch.softmax(scores, dim=-1, dtype=v.dtype).view(shared)
        mixed = (chosen @ v).view(rows, heads, length, head_width)
        joined: Tensor = self.out(mixed.transpose(1, 2).reshape(rows, length, width))
        return joined


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(shape.width, eps=shape.norm_eps)
        self.attention = Attention(shape)
        self.feed_norm = nn.RMSNorm(shape.width, eps=shape.norm_eps)
        self.gate = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.up = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.down = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cos, sin, mask)
        fed = self.feed_norm(x)
        out: Tensor = x + self.down(F.silu(self.gate(fed)) * self.up(fed))
        return out


class Starter(nn.Module):
    """Token ids in, hidden states out; `logits` reads the states with the (tied) embedding."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocab, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=shape.norm_eps)
        cos, sin = rope_table(shape, shape.context)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self._start()

    def _start(self) -> None:
        for number, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            block.attention.start_biases(looks_back=number < _LOOK_BACK_BLOCKS)
        nn.init.normal_(self.embedding.weight, std=0.02)
        for name, weight in self.named_parameters():
            if weight.dim() == 2 and "embedding" not in name:
                shrink = (
                    (2 * self.shape.layers) ** -0.5 if name.endswith(("out.weight", "down.weight")) else 1.0
                )
                nn.init.normal_(weight, std=shrink * weight.shape[1] ** -0.5)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        length = ids.shape[1]
        cos, sin = self.cos[:length], self.sin[:length]
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, cos, sin, mask)
        states: Tensor = self.norm(x)
        return states

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.embedding.weight)
