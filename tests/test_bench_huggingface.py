"""Models of transformers: small ones of several families, sizes, checkpoints, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import measuring
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import cli
from bench import models, probe, suite
from bench.builders import hf_sizes, huggingface
from bench.case import Case, Measurement, Plan
from bench.errors import UsageError
from bench.meters.memory import static_bytes
from bench.stored_run import load
from bench.workload import Workload, build

SMALL = {"depth": 2, "width": 16, "heads": 2, "batch": 2}
TEXT = SMALL | {"seq": 12}


def case(model: str, **axes: Any) -> Case:
    nothing = dict.fromkeys(("depth", "width", "heads", "seq", "batch", "vocab", "data"))
    fields = {"method": "bdia", "bits": 9, "dtype": "fp32", "train_steps": 0, "device": "cpu", "seed": 0}
    return Case(model=model, **(nothing | fields | axes))


def measured(of: Case, *measure: Measurement) -> dict[str, Any]:
    """What a child measures of it, which must end well."""
    found = measuring.measured(Plan(case=of, measure=frozenset(measure)))
    assert (found.status, found.message) == ("ok", None)
    return found.fields


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A checkpoint of GPT-2 in the working directory: 3 blocks, width 8, 2 heads, 300 tokens, 16 positions."""
    monkeypatch.chdir(tmp_path)
    config = GPT2Config(n_layer=3, n_embd=8, n_head=2, vocab_size=300, n_positions=16, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained("ckpt")
    return "hf:./ckpt"


def one_line(caught: pytest.ExceptionInfo[UsageError], *parts: str) -> None:
    said = str(caught.value)
    assert "\n" not in said
    for part in parts:
        assert part in said


@pytest.mark.parametrize(
    ("model", "sizes", "blocks", "elements"),
    [
        ("hf:gpt2", TEXT, 2, 2 * 12 * 16),
        ("hf:llama", TEXT, 2, 2 * 12 * 16),
        ("hf:bert", TEXT, 2, 2 * 12 * 16),
        ("hf:bart", TEXT, 4, 2 * 12 * 16),  # encoder and decoder
        ("hf:vit", SMALL, 2, 2 * 197 * 16),  # 14 x 14 patches and a class token
    ],
)
def test_unmodified_models_are_exact(model: str, sizes: dict[str, int], blocks: int, elements: int) -> None:
    """Language models of each family and a ViT, dropout as they have it, are rebuilt bit for bit."""
    found = measured(case(model, **sizes), "reconstruction", "gradients")
    assert (found["bit_exact"], found["gradient_error"]) == (True, 0.0)
    assert len(found["reconstruction"]) == found["blocks"] == blocks
    assert (found["stream_elements"], found["samples"]) == (elements, 2)
    assert found["tokens"] == (24 if "seq" in sizes else None)


def test_two_runs_of_a_case_are_the_same_to_the_byte() -> None:
    """Weights, batch, losses and bytes follow from the case."""
    first, again = (measured(case("hf:gpt2", **TEXT), "memory", "gradients") for _ in range(2))
    first.pop("rss_bytes"), again.pop("rss_bytes")
    assert first == again
    assert first["rng_bytes"] > 0  # it drops out


@pytest.mark.parametrize("model", ["hf:gpt2", "hf:bert", "hf:t5", "hf:deit"])
def test_a_workload_follows_from_its_case(model: str) -> None:
    """Two builds have equal weights and batches whatever was drawn before."""
    of = case(model, **(SMALL if model == "hf:deit" else TEXT))
    first = build(of)
    torch.rand(3)
    again = build(of)
    assert first.model.training
    assert all(map(torch.equal, first.model.parameters(), again.model.parameters()))
    assert all(torch.equal(first.batch[name], again.batch[name]) for name in ("labels",))
    assert not torch.equal(first.batches(1)["labels"], first.batch["labels"])


def config_of(workload: Workload) -> Any:
    return workload.model.config


def test_sizes_reach_the_configuration_and_what_follows_from_them() -> None:
    """The feed-forward width keeps its proportion, keys and values their share of the heads, and positions suffice."""
    mistral = config_of(build(case("hf:mistral", depth=3, width=64, heads=8, seq=20, batch=1, vocab=300)))
    sizes = (mistral.num_hidden_layers, mistral.hidden_size, mistral.num_attention_heads, mistral.vocab_size)
    assert sizes == (3, 64, 8, 300)
    assert (mistral.intermediate_size, mistral.num_key_value_heads, mistral.head_dim) == (64 * 14336 // 4096, 2, 8)
    assert mistral.use_cache is False
    bart = config_of(build(case("hf:bart", **(TEXT | {"seq": 1100}))))
    assert (bart.encoder_layers, bart.decoder_layers) == (2, 2)
    assert (bart.encoder_attention_heads, bart.decoder_attention_heads, bart.encoder_ffn_dim) == (2, 2, 64)
    assert bart.max_position_embeddings >= 1100


def test_without_sizes_a_type_has_its_own() -> None:
    """What is not given is the configuration's, but for the vocabulary, which follows the data."""
    config = config_of(build(case("hf:bloom", batch=1, seq=8)))
    assert (config.hidden_size, config.n_layer, config.n_head, config.vocab_size) == (64, 2, 8, 256)


def test_masked_tokens_are_those_to_guess() -> None:
    """A masked language model sees the last id of its vocabulary where it has a label, and text elsewhere."""
    batch = build(case("hf:bert", **TEXT)).batch
    hidden = batch["labels"] != huggingface.UNLABELLED
    assert 0 < int(hidden.sum()) < hidden.numel() / 4
    assert batch["input_ids"][hidden].unique().tolist() == [255]


def test_images_have_the_size_the_model_reads() -> None:
    """The digits come as 3 channels at the configuration's own image size."""
    batch = build(case("hf:vit", **SMALL)).batch
    assert batch["pixel_values"].shape == (2, 3, 224, 224)


def test_a_checkpoint_comes_with_its_own_weights_and_sizes(checkpoint: str) -> None:
    """Weights are those in the folder, and the specification has its sizes."""
    saved = GPT2LMHeadModel.from_pretrained("ckpt", local_files_only=True)
    workload = build(case(checkpoint, batch=2, seq=8))
    assert all(map(torch.equal, saved.parameters(), workload.model.parameters()))
    spec = huggingface.introduce(checkpoint)
    assert spec.fixed
    assert dict(spec.defaults) == {"depth": 3, "width": 8, "heads": 2, "vocab": 300, "seq": 16, "batch": 4}
    assert measured(case(checkpoint, batch=2), "gradients")["gradient_error"] == 0.0


def test_a_checkpoint_takes_the_bytes_of_its_parameters(checkpoint: str) -> None:
    """Weights that were read from a file count as much as those that were drawn, whatever the file is mapped to."""
    drawn = build(case("hf:gpt2", depth=3, width=8, heads=2, vocab=300, seq=8, batch=2))
    drawn.model.transformer.wpe = torch.nn.Embedding(16, 8)
    loaded = build(case(checkpoint, batch=2, seq=8))
    assert static_bytes(loaded, torch.device("cpu")) == static_bytes(drawn, torch.device("cpu"))


def test_the_library_is_told_that_there_is_no_network() -> None:
    """In a process of its own, transformers is imported offline."""
    code = (
        "from bench.builders import huggingface; huggingface._transformers();"
        "from huggingface_hub import constants; assert constants.HF_HUB_OFFLINE"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent, timeout=60)


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ({"depth": 6}, "--depth 6: the checkpoint 'hf:./ckpt' has depth 3"),
        ({"vocab": 256}, "--vocab 256: the checkpoint 'hf:./ckpt' has vocab 300"),
        ({"seq": 17}, "--seq 17: the checkpoint 'hf:./ckpt' has positions for 16"),
    ],
)
def test_an_axis_that_a_checkpoint_does_not_have_is_refused(checkpoint: str, axes: dict[str, int], said: str) -> None:
    """The error names both sizes; before anything runs where it can be."""
    with pytest.raises(UsageError) as caught:
        build(case(checkpoint, **axes))
    one_line(caught, said)
    introduced = {checkpoint: huggingface.introduce(checkpoint)}
    overrides: dict[str, Any] = {"model": (checkpoint,)} | {name: (value,) for name, value in axes.items()}
    if "seq" not in axes:
        with pytest.raises(UsageError) as caught:
            suite.load("model").plans(overrides, "cpu", None, introduced)
        one_line(caught, *map(str, axes.values()), "3")


def test_a_folder_that_is_no_checkpoint_is_one_line(checkpoint: str) -> None:
    """No folder, no config.json, pickled weights only, no weights: each is told before torch is needed."""
    for name, parts in (
        ("hf:./nowhere", ("No such file", "nothing is downloaded")),
        ("hf:openai/gpt2", ("openai/gpt2: No such file",)),
    ):
        with pytest.raises(UsageError) as caught:
            models.get(name)
        one_line(caught, name, *parts)
    weights = Path("ckpt/model.safetensors")
    weights.rename("ckpt/pytorch_model.bin")
    with pytest.raises(UsageError) as caught:
        models.get(checkpoint)
    one_line(caught, "pickled weights only (pytorch_model.bin)", ".safetensors")
    Path("ckpt/pytorch_model.bin").unlink()
    with pytest.raises(UsageError, match="has none"):
        models.get(checkpoint)
    Path("ckpt/config.json").unlink()
    with pytest.raises(UsageError, match=r"has no config\.json"):
        models.get(checkpoint)


def test_a_checkpoint_that_cannot_be_read_is_one_line(checkpoint: str) -> None:
    """Torn weights, and a configuration of no known type."""
    Path("ckpt/model.safetensors").write_bytes(b"torn")
    with pytest.raises(UsageError) as caught:
        build(case(checkpoint))
    one_line(caught, "hf:./ckpt", "cannot make it")
    Path("ckpt/config.json").write_text(json.dumps({"model_type": "no-such-type"}))
    with pytest.raises(UsageError) as caught:
        huggingface.introduce(checkpoint)
    one_line(caught, "hf:./ckpt", "no-such-type")


def test_another_weight_is_another_source(checkpoint: str) -> None:
    """What a record rests on has the checkpoint's content in it."""
    before = models.source(checkpoint)
    assert before == models.source(checkpoint)
    Path("ckpt/model.safetensors").write_bytes(b"other")
    assert models.source(checkpoint) != before
    assert models.source("hf:gpt2") is None


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("hf:gtp2", ("no such type", "did you mean hf:gpt2", "hf:./gtp2")),
        ("hf:wav2vec2", ("language modelling or image classification", "FILE.py:FUNCTION")),
    ],
)
def test_a_type_that_will_not_do_is_one_line(name: str, parts: tuple[str, ...]) -> None:
    """An unknown type is answered by its likeliest neighbours, one without a head by the way round."""
    with pytest.raises(UsageError) as caught:
        huggingface.introduce(name)
    one_line(caught, name, *parts)


@pytest.mark.parametrize(
    ("model", "axes", "parts"),
    [
        ("hf:gpt2", {"width": 16, "heads": 3}, ("width 16", "heads 3")),
        ("hf:swin", {"depth": 2}, ("no one depth", "--depth")),
        ("hf:gpt2", TEXT | {"vocab": 100}, ("outside a vocabulary of 100",)),
        ("hf:mamba2", {"depth": 2, "width": 16}, ("cannot make it with num_hidden_layers=2, hidden_size=16",)),
    ],
)
def test_sizes_a_type_cannot_take_are_one_line(model: str, axes: dict[str, int], parts: tuple[str, ...]) -> None:
    """What the bench sees itself, and what transformers has against a configuration."""
    with pytest.raises(UsageError) as caught:
        build(case(model, **axes))
    one_line(caught, model if "vocabulary" not in parts[0] else "100", *parts)


def test_stages_of_several_widths_have_no_axes() -> None:
    """Swin has neither one depth nor one width, so its specification offers none."""
    assert huggingface.introduce("hf:swin").axes == ("batch",)
    assert huggingface.introduce("hf:mamba").axes == ("depth", "width", "seq", "batch", "vocab")


def test_a_plan_knows_what_the_type_is(tmp_path: Path) -> None:
    """With specifications from a fresh process, plans have a type's own sizes; wrong axes and data are refused."""
    introduced = probe.introduce(["hf:gpt2", "hf:vit"])
    found = suite.load("model")
    (plan, *_) = found.plans({"model": ("hf:gpt2",), "width": (96,), "heads": (4,)}, "cpu", None, introduced)
    sizes = (plan.case.depth, plan.case.width, plan.case.heads, plan.case.seq, plan.case.batch, plan.case.vocab)
    assert sizes == (12, 96, 4, 128, 4, 256)
    refused: list[tuple[dict[str, Any], str | None, str]] = [
        ({"model": ("hf:gpt2",), "width": (128,)}, None, "width 128 is not divisible by heads 12"),
        ({"model": ("hf:vit",), "seq": (64,)}, None, "hf:vit has no seq"),
        ({"model": ("hf:gpt2",)}, str(tmp_path), "is a folder: a model of text"),
        ({"model": ("hf:vit",)}, __file__, "a model of images reads the folder"),
    ]
    for overrides, data, said in refused:
        with pytest.raises(UsageError, match=said):
            found.plans(overrides, "cpu", data, introduced)


def test_a_run_measures_a_model_by_its_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`run model --model hf:TYPE` measures it like any other, and says what it measured."""
    monkeypatch.chdir(tmp_path)
    sizes = ["--depth", "2", "--width", "16", "--heads", "2", "--seq", "8", "--batch", "2"]
    arguments = ["run", "model", "--model", "hf:gpt2", "--method", "standard,bdia", "--rounds", "1", "--out", "run"]
    assert cli.execute([*arguments, *sizes]) == 0
    found = {record.method: record for record in load(Path("run")).records}
    assert found["bdia"].bit_exact is True
    assert found["bdia"].gradient_error == 0.0
    assert (found["bdia"].blocks, found["bdia"].tokens, found["bdia"].vocab) == (2, 16, 256)
    assert found["standard"].step_seconds is not None
    assert "hf:gpt2 · depth 2 · width 16" in capsys.readouterr().out.replace("\N{NO-BREAK SPACE}", " ")


def test_the_vocabulary_of_a_family_is_read_where_it_lies() -> None:
    """A type that keeps its sizes in parts has no sizes of its own to set."""
    gemma3 = huggingface._config("hf:gemma3")
    assert {axis: hf_sizes.read(gemma3, axis) for axis in hf_sizes.NAMES} == dict.fromkeys(hf_sizes.NAMES)
