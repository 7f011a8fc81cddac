"""A zoo: tiny instances of architectures that people train, as their libraries build them, with a batch each.

Random weights, odd sizes, and otherwise the configuration's own defaults: dropout where it has some, `use_cache` on.
"""

from __future__ import annotations

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
    blocks: Callable[[Any], Any] | None = None
    """What to give as `blocks=`; None where `attach` finds them."""
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

    def chosen(self, model: nn.Module) -> Any:
        """`blocks=` for this instance."""
        return None if self.blocks is None else self.blocks(model)

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


def images() -> Batch:
    return {"pixel_values": torch.randn(B, 3, 12, 12), "labels": torch.tensor([0, 1, 1])}


def unlabelled_images() -> Batch:
    return {"pixel_values": torch.randn(B, 3, 12, 12)}


def _sizes(**more: Any) -> dict[str, Any]:
    """Sizes under the names that most configurations share."""
    usual = {"hidden_size": D, "num_hidden_layers": N, "num_attention_heads": H, "intermediate_size": 44}
    return usual | more


def _text(**more: Any) -> dict[str, Any]:
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return _sizes(vocab_size=VOCAB, max_position_embeddings=64, **special | more)


def _image(**more: Any) -> dict[str, Any]:
    return _sizes(image_size=12, patch_size=4, **more)


def _seq2seq(**more: Any) -> dict[str, Any]:
    heads = {"encoder_attention_heads": H, "decoder_attention_heads": H}
    depths = {"encoder_layers": N, "decoder_layers": N - 1, "encoder_ffn_dim": 44, "decoder_ffn_dim": 44}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    return {"vocab_size": VOCAB, "d_model": D, "max_position_embeddings": 64, **heads, **depths, **special, **more}


def _gpt_sizes(**more: Any) -> dict[str, Any]:
    special = {"bos_token_id": 1, "eos_token_id": 2}
    return {"vocab_size": VOCAB, "n_embd": D, "n_layer": N, "n_head": H, "n_positions": 64, **special, **more}


def _opt(**more: Any) -> nn.Module:
    sizes = _text(ffn_dim=44, word_embed_proj_dim=D, **more)
    del sizes["intermediate_size"]
    return hf.OPTForCausalLM(hf.OPTConfig(**sizes))


def _layer(kind: type[nn.Module], *, batch_first: bool = False, norm_first: bool = False) -> nn.Module:
    return kind(D, H, 44, batch_first=batch_first, norm_first=norm_first)


def _encoder(*, batch_first: bool) -> nn.Module:
    layer = _layer(nn.TransformerEncoderLayer, batch_first=batch_first, norm_first=batch_first)
    return nn.TransformerEncoder(layer, N, nn.LayerNorm(D), enable_nested_tensor=False)


def _decoder(*, batch_first: bool, depth: int = N) -> nn.Module:
    return nn.TransformerDecoder(_layer(nn.TransformerDecoderLayer, batch_first=batch_first), depth)


def _wav2vec2() -> nn.Module:
    convolutions = {"conv_dim": (8, 8), "conv_stride": (5, 2), "conv_kernel": (10, 3)}
    positions = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    # No masking of time steps: it draws from NumPy's generator, which no seed of torch repeats.
    return hf.Wav2Vec2Model(hf.Wav2Vec2Config(**_sizes(**convolutions, **positions, mask_time_prob=0.0)))


def _swin() -> nn.Module:
    sizes = {"embed_dim": 12, "depths": [3, 2], "num_heads": [2, 3], "image_size": 16, "patch_size": 2}
    return hf.SwinForImageClassification(hf.SwinConfig(window_size=4, **sizes))


def _whisper() -> nn.Module:
    sizes = _seq2seq(num_mel_bins=8, max_source_positions=9, max_target_positions=32)
    del sizes["max_position_embeddings"]
    return hf.WhisperForConditionalGeneration(
        hf.WhisperConfig(**sizes, suppress_tokens=None, begin_suppress_tokens=None)
    )


def _t5() -> nn.Module:
    sizes = {"vocab_size": VOCAB, "d_model": D, "d_kv": 12, "d_ff": 44, "num_layers": N, "num_decoder_layers": N - 1}
    return hf.T5ForConditionalGeneration(hf.T5Config(**sizes, num_heads=H, decoder_start_token_id=0))


GROUPED = {"num_key_value_heads": 1}

ZOO: tuple[Specimen, ...] = (
    # Decoders of text
    Specimen("gpt2", lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**_gpt_sizes())), padded, prompt="input_ids"),
    Specimen("gptj", lambda: hf.GPTJForCausalLM(hf.GPTJConfig(**_gpt_sizes(rotary_dim=4))), padded, prompt="input_ids"),
    Specimen("llama", lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**_text(**GROUPED))), padded, prompt="input_ids"),
    Specimen("mistral", lambda: hf.MistralForCausalLM(hf.MistralConfig(**_text(**GROUPED))), padded, prompt="input_ids"),
    Specimen("qwen2", lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**_text(**GROUPED))), padded, prompt="input_ids"),
    Specimen(
        "qwen3", lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**_text(**GROUPED, head_dim=8))), padded, prompt="input_ids"
    ),
    Specimen(
        "gemma2", lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**_text(**GROUPED, head_dim=8))), padded,
        prompt="input_ids",
    ),
    Specimen("phi", lambda: hf.PhiForCausalLM(hf.PhiConfig(**_text())), unpadded, prompt="input_ids"),
    Specimen("gpt-neox", lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**_text())), padded, prompt="input_ids"),
    Specimen("opt", _opt, padded, prompt="input_ids"),
    Specimen("opt-layerdrop", lambda: _opt(layerdrop=0.4), padded, calls=None, prompt="input_ids"),
    Specimen(
        "bloom", lambda: hf.BloomForCausalLM(hf.BloomConfig(vocab_size=VOCAB, hidden_size=D, n_layer=N, n_head=H)),
        padded, prompt="input_ids",
    ),
    Specimen("falcon", lambda: hf.FalconForCausalLM(hf.FalconConfig(**_text())), padded, prompt="input_ids"),
    # Routes tokens to experts by what they are; a rerun that is exact in every bit routes them alike.
    Specimen(
        "mixtral", lambda: hf.MixtralForCausalLM(hf.MixtralConfig(**_text(**GROUPED, num_local_experts=4))), padded,
        prompt="input_ids",
    ),
    # Encoders of text
    Specimen("bert", lambda: hf.BertForMaskedLM(hf.BertConfig(**_text())), padded),
    Specimen("roberta", lambda: hf.RobertaForMaskedLM(hf.RobertaConfig(**_text())), padded),
    Specimen(
        "distilbert", lambda: hf.DistilBertForMaskedLM(
            hf.DistilBertConfig(
                vocab_size=VOCAB, dim=D, n_layers=N, n_heads=H, hidden_dim=44, max_position_embeddings=64
            )
        ),
        padded,
    ),
    Specimen("electra", lambda: hf.ElectraForMaskedLM(hf.ElectraConfig(**_text(embedding_size=12))), padded),
    Specimen(
        "deberta-v2", lambda: hf.DebertaV2ForMaskedLM(
            hf.DebertaV2Config(**_text(relative_attention=True, pos_att_type=["p2c", "c2p"]))
        ),
        padded,
    ),
    Specimen(
        "modernbert", lambda: hf.ModernBertForMaskedLM(hf.ModernBertConfig(**_text(cls_token_id=1, sep_token_id=2))),
        padded,
    ),
    # One block that serves at every depth; the list that holds it has one item, which could be any module.
    Specimen(
        "albert", lambda: hf.AlbertForMaskedLM(hf.AlbertConfig(**_text(embedding_size=12))), padded,
        blocks=lambda model: list(model.albert.encoder.albert_layer_groups),
    ),
    # Vision
    Specimen("vit", lambda: hf.ViTForImageClassification(hf.ViTConfig(**_image(hidden_dropout_prob=0.1))), images),
    Specimen("deit", lambda: hf.DeiTForImageClassification(hf.DeiTConfig(**_image())), images),
    Specimen(
        "dinov2", lambda: hf.Dinov2ForImageClassification(hf.Dinov2Config(**_image(drop_path_rate=0.2))), images
    ),
    Specimen("beit", lambda: hf.BeitForImageClassification(hf.BeitConfig(**_image())), images),
    Specimen("clip-vision", lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**_image())), unlabelled_images),
    # A chain each for the stages: between them the shape changes.
    Specimen(
        "swin", _swin, lambda: {"pixel_values": torch.randn(B, 3, 16, 16), "labels": torch.tensor([0, 1, 1])},
        blocks=lambda model: [list(stage.blocks) for stage in model.swin.encoder.layers],
    ),
    # Speech
    Specimen("wav2vec2", _wav2vec2, lambda: {"input_values": torch.randn(B, 210)}, calls=None),
    # Encoder-decoders: two chains
    Specimen(
        "bart", lambda: hf.BartForConditionalGeneration(hf.BartConfig(**_seq2seq())), padded, calls=2 * N - 1,
        prompt="input_ids",
    ),
    Specimen("marian", lambda: hf.MarianMTModel(hf.MarianConfig(**_seq2seq())), padded, 2 * N - 1, prompt="input_ids"),
    Specimen("t5", _t5, padded, calls=2 * N - 1, prompt="input_ids"),
    Specimen(
        "whisper", _whisper, lambda: {"input_features": torch.randn(B, 8, 18), "labels": ids()}, calls=2 * N - 1,
        prompt="input_features",
    ),
    # torch.nn; its own default is the batch in the second place
    Specimen("nn.encoder", lambda: _encoder(batch_first=False), lambda: {"src": torch.randn(T, B, D)}),
    Specimen(
        "nn.encoder-batch-first", lambda: _encoder(batch_first=True),
        lambda: {"src": torch.randn(B, T, D), "src_key_padding_mask": torch.arange(T).expand(B, T) > 4},
    ),
    Specimen(
        "nn.decoder", lambda: _decoder(batch_first=False),
        lambda: {"tgt": torch.randn(T, B, D), "memory": torch.randn(T + 2, B, D, requires_grad=True)},
    ),
    Specimen(
        "nn.decoder-batch-first", lambda: _decoder(batch_first=True),
        lambda: {"tgt": torch.randn(B, T, D), "memory": torch.randn(B, T + 2, D, requires_grad=True)},
    ),
    Specimen(
        "nn.transformer",
        lambda: nn.Transformer(
            D, H, custom_encoder=_encoder(batch_first=False), custom_decoder=_decoder(batch_first=False, depth=N - 1)
        ),
        lambda: {"src": torch.randn(T, B, D), "tgt": torch.randn(T + 2, B, D)}, calls=2 * N - 1,
    ),
    # The shapes in which timm and torchvision hold their blocks
    Specimen("sequential-vit", lambda: SequentialViT(N), lambda: {"image": torch.randn(B, 3, 8, 8)}),
    Specimen("iterated-vit", lambda: IteratedViT(N), lambda: {"image": torch.randn(B, 3, 8, 8)}),
    Specimen("torchvision-vit", lambda: TorchvisionViT(N), lambda: {"image": torch.randn(B, 3, 8, 8)}),
)  # fmt: skip


def specimen(name: str) -> Specimen:
    """The specimen called `name`."""
    (found,) = (each for each in ZOO if each.name == name)
    return found
