"""Fine-tunes an unmodified Hugging Face GPT-2 with its own Trainer, with a method attached.

    python examples/finetune_gpt2_trainer.py                              # a small GPT-2 of random weights, `bdia`
    python examples/finetune_gpt2_trainer.py --method checkpoint          # the same, plainly
    python examples/finetune_gpt2_trainer.py --model FOLDER --data FILE   # your checkpoint and tokenizer, your text
    python examples/finetune_gpt2_trainer.py --out run --steps 40         # keep the Trainer's checkpoints, and then
    python examples/finetune_gpt2_trainer.py --out run --steps 80         # go on from the last one, γ included

Nothing is downloaded. Without `--model` a token is a byte: ByT5's tokenizer needs no file of its own.
"""

from __future__ import annotations

import gc
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import command_line
import torch
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    ByT5Tokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging

import bdia
from bench.data import files
from bench.meters.level import level

TEXT_BYTES = 2**20
"""No more of the text than this is read."""
GAMMA = "gamma.pt"
"""The file with γ's state in each of the Trainer's checkpoints."""

Sample = dict[str, Tensor]


class KeepGamma(TrainerCallback):  # type: ignore[misc]
    """Puts γ's state into each checkpoint that the Trainer writes, which knows of everything else."""

    def __init__(self, handle: bdia.Handle) -> None:
        self.handle = handle

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        torch.save(self.handle.state_dict(), Path(args.output_dir, f"checkpoint-{state.global_step}", GAMMA))


def main(options: Namespace) -> None:
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as temporary:
        train(options, options.out or temporary)


def train(options: Namespace, out: str) -> None:
    set_seed(options.seed)
    model, tokenizer = load(options)
    samples = windows(options.data, tokenizer, options.seq)
    unseen = samples[: 4 * options.batch]
    arguments = TrainingArguments(
        output_dir=out,
        max_steps=options.steps,
        per_device_train_batch_size=options.batch,
        per_device_eval_batch_size=options.batch,
        learning_rate=options.learning_rate,
        lr_scheduler_type="constant",  # any other would depend on --steps, and differ after going on
        eval_strategy="steps",
        eval_steps=options.every,
        logging_steps=options.every,
        save_steps=options.every,
        seed=options.seed,
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,
    )
    with bdia.attach(model, options.method, bits=options.bits, gamma=options.gamma, seed=options.seed) as handle:
        trainer = Trainer(
            model,
            arguments,
            train_dataset=samples[len(unseen) :],
            eval_dataset=unseen,
            data_collator=default_data_collator,
            processing_class=tokenizer,
            callbacks=[KeepGamma(handle)],
        )
        before = trainer.evaluate()["eval_loss"]
        last = get_last_checkpoint(out)
        if last is not None:
            if int(last.rpartition("-")[2]) >= options.steps:
                raise ValueError(f"--steps {options.steps}: {last} is there already; give a later step")
            handle.load_state_dict(torch.load(Path(last, GAMMA)))
        trainer.train(resume_from_checkpoint=last)
        held = activation_bytes(model, default_data_collator(unseen[: options.batch]))

    # Detached. An evaluation would have been the plain model's in any case.
    after = trainer.evaluate()["eval_loss"]
    print(f"{options.method}: plain loss {before:.4f} before, {after:.4f} after {options.steps} steps")
    print(f"{options.method}: {held / 2**20:.2f} MiB of activations at the highest point of a step")


def load(options: Namespace) -> tuple[GPT2LMHeadModel, Any]:
    """The model and its tokenizer: of a local folder, or small and of random weights."""
    if options.model:
        if not Path(options.model, "config.json").is_file():
            raise ValueError(f"--model {options.model}: expected a folder that save_pretrained() wrote")
        tokenizer = AutoTokenizer.from_pretrained(options.model, local_files_only=True)
        return GPT2LMHeadModel.from_pretrained(options.model, local_files_only=True), tokenizer
    tokenizer = ByT5Tokenizer(extra_ids=0)
    shape = {"n_layer": options.depth, "n_head": 4, "n_embd": options.width, "n_positions": options.seq}
    special = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **shape, **special)), tokenizer


def windows(data: str | None, tokenizer: Any, seq: int) -> list[Sample]:
    """The text, cut into samples of `seq` tokens."""
    raw = files.built_in_text() if data is None else files.text(data).read_bytes()
    ids = tokenizer(raw[:TEXT_BYTES].decode(errors="replace"), add_special_tokens=False, return_tensors="pt").input_ids
    rows = ids[0, : ids.numel() // seq * seq].view(-1, seq)  # [samples, T]
    return [{"input_ids": row, "labels": row} for row in rows]


def activation_bytes(model: nn.Module, batch: Sample) -> int:
    """The highest level of torch's allocator over a forward and a backward, above the level before, with gradients
    allocated throughout: what the method controls, to the byte."""
    device = next(model.parameters()).device
    batch = {name: ids.to(device) for name, ids in batch.items()}
    model.train()
    with level(device) as meter:
        model(**batch).loss.backward()  # allocates the gradients
        gc.collect()
        meter.mark("before")
        model(**batch).loss.backward()
        meter.mark("after")
    return meter.rise("before", "after")


if __name__ == "__main__":
    parser = command_line.with_method("Fine-tunes a Hugging Face GPT-2 with transformers' Trainer.")
    parser.add_argument("--model", metavar="FOLDER", help="a local checkpoint; --depth and --width are then its own")
    parser.add_argument("--steps", type=command_line.count, default=60, help="the step to stop at (%(default)s)")
    parser.add_argument("--every", type=command_line.count, default=20, help="evaluate and save every … steps (20)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="constant (%(default)s)")
    parser.add_argument("--out", metavar="FOLDER", help="the Trainer's checkpoints; it goes on from the last one there")
    command_line.run(main, parser)
