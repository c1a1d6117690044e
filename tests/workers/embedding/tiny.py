"""Makes small models of real kinds, in the layout in which such models are published."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import Unigram
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import UnigramTrainer
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    BertTokenizer,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaModel,
)

WORDS = (
    "river stone garden winter letter window market silver morning engine summer bridge paper forest "
    "candle harbor island mirror shadow valley the of and to in a is that for it was on are as with"
).split()
WIDTH = 64
"""Wide enough for `backends.linear`."""
BERT_CONTEXT = 64
XLM_CONTEXT = 96


def sentences(*sizes: int, seed: int = 0) -> list[str]:
    """Return texts of so many words."""
    chance = torch.Generator().manual_seed(seed)
    picks = [torch.randint(len(WORDS), (size,), generator=chance).tolist() for size in sizes]
    return [" ".join(WORDS[pick] for pick in each) for each in picks]


def make_bert(folder: Path) -> Path:
    """Write a BERT encoder, with its weights as safetensors."""
    torch.manual_seed(1)
    _bert_tokenizer(folder)
    _lively(BertModel(_bert_config())).save_pretrained(folder)
    return folder


def make_cross_encoder(folder: Path, *, labels: int = 1) -> Path:
    """Write a BERT that scores pairs."""
    torch.manual_seed(2)
    _bert_tokenizer(folder)
    _lively(BertForSequenceClassification(_bert_config(num_labels=labels))).save_pretrained(folder)
    return folder


def make_bge_m3(folder: Path, *, pickled: bool = False) -> Path:
    """Write an XLM-R encoder with both heads of BGE-M3, as safetensors or as a pickle of weights."""
    torch.manual_seed(3)
    tokenizer = _unigram_tokenizer()
    tokenizer.save_pretrained(folder)
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * WIDTH,
        max_position_embeddings=XLM_CONTEXT + 2,
        type_vocab_size=1,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    encoder = _lively(XLMRobertaModel(config))
    encoder.save_pretrained(folder)
    if pickled:
        (folder / "model.safetensors").unlink()
        torch.save(encoder.state_dict(), folder / "pytorch_model.bin")
    torch.save(torch.nn.Linear(WIDTH, 1).state_dict(), folder / "sparse_linear.pt")
    torch.save(torch.nn.Linear(WIDTH, WIDTH).state_dict(), folder / "colbert_linear.pt")
    return folder


def add_modules(folder: Path, pooling: str, *, normalize: bool = False, more: Any = None) -> Path:
    """Make the encoder in ``folder`` a sentence-transformers model that pools so."""
    names = [("Transformer", ""), ("Pooling", "1_Pooling"), *([("Normalize", "2_Normalize")] * normalize)]
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{name}"}
        for place, (name, path) in enumerate(names)
    ]
    config = {"embedding_dimension": WIDTH, "pooling_mode": pooling, **(more or {}).get("pooling", {})}
    (folder / "1_Pooling").mkdir()
    _write(folder / "1_Pooling" / "config.json", config)
    _write(folder / "modules.json", modules)
    _write(folder / "config_sentence_transformers.json", (more or {}).get("prompts", {}))
    return folder


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


def _bert_config(**more: Any) -> BertConfig:
    return BertConfig(
        vocab_size=len(_vocabulary()),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * WIDTH,
        max_position_embeddings=BERT_CONTEXT,
        **more,
    )


def _bert_tokenizer(folder: Path) -> None:
    vocabulary = {token: number for number, token in enumerate(_vocabulary())}
    BertTokenizer(vocab=vocabulary, model_max_length=BERT_CONTEXT).save_pretrained(folder)


def _vocabulary() -> Sequence[str]:
    letters = [chr(number) for number in range(ord("a"), ord("z") + 1)]
    tails = [f"##{letter}" for letter in letters]
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *tails, *(w for w in WORDS if len(w) > 1)]


def _unigram_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of the kind that XLM-R has, learned from the words above."""
    unigram = Tokenizer(Unigram())
    unigram.normalizer = normalizers.NFKC()
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    special = [AddedToken(each, special=True) for each in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")]
    trainer = UnigramTrainer(vocab_size=120, show_progress=False, special_tokens=special, unk_token="<unk>")
    unigram.train_from_iterator(iter(sentences(*range(3, 60))), trainer)
    unigram.post_processor = TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    fast: Any = PreTrainedTokenizerFast
    tokenizer: PreTrainedTokenizerFast = fast(
        tokenizer_object=unigram,
        model_max_length=8192,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_input_names=["input_ids", "attention_mask"],
    )
    return tokenizer


def _lively(model: Any) -> Any:
    """Return ``model`` with weights large enough that a mistake shows in its output."""
    with torch.no_grad():
        for values in model.parameters():
            if values.dim() > 1:
                values.normal_(std=0.3)
    return model.eval()
