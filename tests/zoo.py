"""A zoo: tiny instances of architectures that people train, as their libraries build them, with a batch each.

Random weights, odd sizes, and otherwise the configuration's own defaults: dropout where it has some, `use_cache` on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf
from networks import IteratedViT, SequentialViT, TorchvisionViT
from torch import Tensor, nn

B, T, D, H, N, VOCAB = 3, 7, 36, 3, 5, 61
"""Samples, tokens, width, heads, blocks, vocabulary."""

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Specimen:
    """One architecture: how to build it, what to train it on, and how many calls of blocks one forward makes."""

    name: str
    build: Callable[[], nn.Module]
    draw: Callable[[], Batch]
    calls: int | None = N
    """None where it is drawn anew each forward (LayerDrop)."""
    prompt: str | None = None
    """The entry of the batch that `generate` goes on from; None for what does not generate."""

    def model(self, seed: int = 0) -> nn.Module:
        """In training mode, its matrices scaled up so that blocks do something."""
        torch.manual_seed(seed)
        model = self.build().train()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(2.0) if parameter.dim() > 1 else None
        return model

    def batch(self, seed: int = 0) -> Batch:
        """Arguments of the model's forward, by name."""
        torch.manual_seed(seed)
        return self.draw()

    def __str__(self) -> str:
        return self.name


def loss_of(model: nn.Module, batch: Batch) -> Tensor:
    """The model's own loss, or the mean square of its output where it has none."""
    output = model(**batch)
    if isinstance(output, Tensor):
        return output.square().mean()
    loss = getattr(output, "loss", None)
    return output.last_hidden_state.square().mean() if loss is None else loss


def ids(length: int = T) -> Tensor:
    return torch.randint(3, VOCAB, (B, length))


def padded(**more: Tensor) -> Batch:
    """Tokens that are their own targets, the first sample shorter than the others."""
    tokens = ids()
    mask = torch.ones_like(tokens)
    mask[0, -3:] = 0
    return {"input_ids": tokens, "attention_mask": mask, "labels": tokens.masked_fill(mask == 0, -100), **more}


def unpadded() -> Batch:
    tokens = ids()
    return {"input_ids": tokens, "labels": tokens}


def images(size: int = 12) -> Batch:
    return {"pixel_values": torch.randn(B, 3, size, size), "labels": torch.tensor([0, 1, 1])}


def unlabelled_images() -> Batch:
    return {"pixel_values": torch.randn(B, 3, 12, 12)}


def pairs() -> Batch:
    return {"input_ids": ids(), **unlabelled_images(), "return_loss": torch.tensor(True)}


# Sizes, under the names that the configurations give them.
USUAL = {"hidden_size": D, "num_hidden_layers": N, "num_attention_heads": H, "intermediate_size": 44}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
TEXT = {**USUAL, **SPECIAL, "vocab_size": VOCAB, "max_position_embeddings": 64}
GROUPED = {**TEXT, "num_key_value_heads": 1}
GPT = {
    "vocab_size": VOCAB,
    "n_embd": D,
    "n_layer": N,
    "n_head": H,
    "n_positions": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OPT = {**TEXT, "ffn_dim": 44, "word_embed_proj_dim": D}
DISTILBERT = {
    "vocab_size": VOCAB,
    "dim": D,
    "n_layers": N,
    "n_heads": H,
    "hidden_dim": 44,
    "max_position_embeddings": 64,
}
IMAGE = {**USUAL, "image_size": 12, "patch_size": 4}
SWIN = {"embed_dim": 12, "depths": [3, 2], "num_heads": [2, 3], "image_size": 16, "patch_size": 2, "window_size": 4}
CONVNEXT = {"hidden_sizes": [12, 24], "depths": [3, 2], "num_stages": 2, "patch_size": 4}
# No masking of time steps: it draws from NumPy's generator, which no seed of torch repeats.
SPEECH = {
    **USUAL, "conv_dim": (8, 8), "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2, "mask_time_prob": 0.0,
}  # fmt: skip
SEQ2SEQ = {
    **SPECIAL, "decoder_start_token_id": 1, "vocab_size": VOCAB, "d_model": D, "encoder_layers": N,
    "decoder_layers": N - 1, "encoder_attention_heads": H, "decoder_attention_heads": H, "encoder_ffn_dim": 44,
    "decoder_ffn_dim": 44, "max_position_embeddings": 64,
}  # fmt: skip
WHISPER = {
    **SEQ2SEQ, "num_mel_bins": 8, "max_source_positions": 9, "max_target_positions": 32, "suppress_tokens": None,
    "begin_suppress_tokens": None,
}  # fmt: skip
T5 = {
    "vocab_size": VOCAB, "d_model": D, "d_kv": 12, "d_ff": 44, "num_layers": N, "num_decoder_layers": N - 1,
    "num_heads": H, "decoder_start_token_id": 0,
}  # fmt: skip


def _built(architecture: str, sizes: dict[str, Any]) -> nn.Module:
    """A Hugging Face model from its configuration, with random weights."""
    kind = getattr(hf, architecture)
    return kind(kind.config_class(**sizes))


def _hf(name: str, architecture: str, draw: Callable[[], Batch], sizes: dict[str, Any], **more: Any) -> Specimen:
    return Specimen(name, functools.partial(_built, architecture, sizes), draw, **more)


def _decoder(name: str, architecture: str, draw: Callable[[], Batch], sizes: dict[str, Any], **more: Any) -> Specimen:
    return _hf(name, architecture, draw, sizes, prompt="input_ids", **more)


def _torch_layer(kind: type[nn.Module], *, batch_first: bool) -> nn.Module:
    """Pre-norm with the batch in the first place, post-norm with the batch in the second, which is torch's default."""
    return kind(D, H, 44, batch_first=batch_first, norm_first=batch_first)


def torch_encoder(*, batch_first: bool) -> nn.TransformerEncoder:
    layer = _torch_layer(nn.TransformerEncoderLayer, batch_first=batch_first)
    return nn.TransformerEncoder(layer, N, nn.LayerNorm(D), enable_nested_tensor=False)


def torch_decoder(*, batch_first: bool, depth: int = N) -> nn.TransformerDecoder:
    return nn.TransformerDecoder(_torch_layer(nn.TransformerDecoderLayer, batch_first=batch_first), depth)


def torch_transformer() -> nn.Transformer:
    encoder, decoder = torch_encoder(batch_first=False), torch_decoder(batch_first=False, depth=N - 1)
    return nn.Transformer(D, H, custom_encoder=encoder, custom_decoder=decoder)


TORCH: tuple[Specimen, ...] = (
    Specimen("nn.encoder", lambda: torch_encoder(batch_first=False), lambda: {"src": torch.randn(T, B, D)}),
    Specimen(
        "nn.encoder-batch-first",
        lambda: torch_encoder(batch_first=True),
        lambda: {"src": torch.randn(B, T, D), "src_key_padding_mask": torch.arange(T).expand(B, T) > 4},
    ),
    Specimen(
        "nn.decoder",
        lambda: torch_decoder(batch_first=False),
        lambda: {"tgt": torch.randn(T, B, D), "memory": torch.randn(T + 2, B, D, requires_grad=True)},
    ),
    Specimen(
        "nn.decoder-batch-first",
        lambda: torch_decoder(batch_first=True),
        lambda: {"tgt": torch.randn(B, T, D), "memory": torch.randn(B, T + 2, D, requires_grad=True)},
    ),
    Specimen(
        "nn.transformer",
        torch_transformer,
        lambda: {"src": torch.randn(T, B, D), "tgt": torch.randn(T + 2, B, D)},
        calls=2 * N - 1,
    ),
    # The shapes in which timm and torchvision hold their blocks
    Specimen("sequential-vit", lambda: SequentialViT(N), lambda: {"image": torch.randn(B, 3, 8, 8)}),
    Specimen("iterated-vit", lambda: IteratedViT(N), lambda: {"image": torch.randn(B, 3, 8, 8)}),
    Specimen("torchvision-vit", lambda: TorchvisionViT(N), lambda: {"image": torch.randn(B, 3, 8, 8)}),
)

ZOO: tuple[Specimen, ...] = (
    # Decoders of text
    _decoder("gpt2", "GPT2LMHeadModel", padded, GPT),
    _decoder("gptj", "GPTJForCausalLM", padded, {**GPT, "rotary_dim": 4}),
    _decoder("llama", "LlamaForCausalLM", padded, GROUPED),
    _decoder("mistral", "MistralForCausalLM", padded, GROUPED),
    _decoder("qwen2", "Qwen2ForCausalLM", padded, GROUPED),
    _decoder("qwen3", "Qwen3ForCausalLM", padded, {**GROUPED, "head_dim": 8}),
    _decoder("gemma2", "Gemma2ForCausalLM", padded, {**GROUPED, "head_dim": 8}),
    _decoder("phi", "PhiForCausalLM", unpadded, TEXT),
    _decoder("gpt-neox", "GPTNeoXForCausalLM", padded, TEXT),
    _decoder("opt", "OPTForCausalLM", padded, OPT),
    _decoder("opt-layerdrop", "OPTForCausalLM", padded, {**OPT, "layerdrop": 0.2}, calls=None),
    _decoder("bloom", "BloomForCausalLM", padded, {"vocab_size": VOCAB, "hidden_size": D, "n_layer": N, "n_head": H}),
    _decoder("falcon", "FalconForCausalLM", padded, TEXT),
    # Routes tokens to experts by what they are; a rerun that is exact in every bit routes them alike.
    _decoder("mixtral", "MixtralForCausalLM", padded, {**GROUPED, "num_local_experts": 4}),
    # Encoders of text
    _hf("bert", "BertForMaskedLM", padded, TEXT),
    _hf("roberta", "RobertaForMaskedLM", padded, TEXT),
    _hf("distilbert", "DistilBertForMaskedLM", padded, DISTILBERT),
    _hf("electra", "ElectraForMaskedLM", padded, {**TEXT, "embedding_size": 12}),
    _hf(
        "deberta-v2",
        "DebertaV2ForMaskedLM",
        padded,
        {**TEXT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    ),
    _hf("modernbert", "ModernBertForMaskedLM", padded, {**TEXT, "cls_token_id": 1, "sep_token_id": 2}),
    # One block that serves at every depth
    _hf("albert", "AlbertForMaskedLM", padded, {**TEXT, "embedding_size": 12}),
    # Vision
    _hf("vit", "ViTForImageClassification", images, {**IMAGE, "hidden_dropout_prob": 0.1}),
    _hf("deit", "DeiTForImageClassification", images, IMAGE),
    _hf("dinov2", "Dinov2ForImageClassification", images, {**IMAGE, "drop_path_rate": 0.2}),
    _hf("beit", "BeitForImageClassification", images, IMAGE),
    _hf("clip-vision", "CLIPVisionModel", unlabelled_images, IMAGE),
    # A chain a stage: between them the shape changes.
    _hf("swin", "SwinForImageClassification", lambda: images(16), SWIN),
    _hf("convnext", "ConvNextForImageClassification", lambda: images(32), CONVNEXT),
    # A chain a tower
    _hf("clip", "CLIPModel", pairs, {"text_config": TEXT, "vision_config": IMAGE, "projection_dim": 8}, calls=2 * N),
    # Speech; LayerDrop by default
    _hf("wav2vec2", "Wav2Vec2Model", lambda: {"input_values": torch.randn(B, 210)}, SPEECH, calls=None),
    # Encoder-decoders: two chains
    _decoder("bart", "BartForConditionalGeneration", padded, SEQ2SEQ, calls=2 * N - 1),
    _decoder("marian", "MarianMTModel", padded, SEQ2SEQ, calls=2 * N - 1),
    _decoder("t5", "T5ForConditionalGeneration", padded, T5, calls=2 * N - 1),
    _hf(
        "whisper",
        "WhisperForConditionalGeneration",
        lambda: {"input_features": torch.randn(B, 8, 18), "labels": ids()},
        WHISPER,
        calls=2 * N - 1,
        prompt="input_features",
    ),
    *TORCH,
)


def specimen(name: str) -> Specimen:
    """The specimen called `name`."""
    (found,) = (each for each in ZOO if each.name == name)
    return found
