"""What trains and what is held out: no sample in both, the same held out for all, epochs, augmentation, layouts."""

from __future__ import annotations

import hashlib
import itertools
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.data import augment, cifar, files, nanogpt, order, splits
from bench.data.images import Images, images
from bench.data.splits import Split
from bench.data.text import Tokens, tokens
from bench.errors import UsageError

BOTH: tuple[Split, ...] = ("train", "validation")


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def write_ids(path: Path, ids: list[int]) -> str:
    return write(path, np.array(ids, dtype="<u2").tobytes())


def write_images(path: Path, label_bytes: int, labels: list[int], first: int) -> None:
    """Images numbered from `first` on: number n fills its picture with the value n."""
    path.write_bytes(
        b"".join(bytes([label] * label_bytes) + bytes([first + n]) * 3072 for n, label in enumerate(labels))
    )


def cifar10(folder: Path) -> str:
    """Five files of four images each, numbered 0 to 19, and a test file of three, 100 to 102."""
    folder.mkdir(exist_ok=True)
    for n in range(5):
        write_images(folder / f"data_batch_{n + 1}.bin", 1, [n, 9, 3, n], first=4 * n)
    write_images(folder / "test_batch.bin", 1, [4, 5, 6], first=100)
    return str(folder)


def numbers(pictures: Tensor) -> list[int]:
    """Which of `cifar10`'s images these are."""
    layout = cifar.CIFARS[0]
    return [round(value) for value in ((pictures[:, 0, 16, 16] * layout.std[0] + layout.mean[0]) * 255).tolist()]


def digest(source: Images | Tokens) -> str:
    total = hashlib.sha256()
    for step in (0, 1, 7):
        for tensor in source.batch(step):
            total.update(str((tensor.dtype, tuple(tensor.shape))).encode())
            total.update(tensor.numpy().tobytes())
    return total.hexdigest()[:16]


def identities(pictures: Tensor) -> list[bytes]:
    return [one.numpy().tobytes() for one in pictures]


# --- what is measured -------------------------------------------------------------------------------------


def test_measured_images_are_what_they_were(tmp_path: Path) -> None:
    """Batches that are measured, not trained on, have the bits that they had before there were splits."""
    assert digest(images(None, samples=5, seed=3)) == "9dfdb5ef1f66fab8"
    folders = {"CIFAR-10": tmp_path / "ten", "CIFAR-100": tmp_path / "hundred"}
    for folder in folders.values():
        folder.mkdir()
    plant(folders["CIFAR-10"] / "data_batch_1.bin", 1, [3, 0, 9])
    plant(folders["CIFAR-10"] / "data_batch_2.bin", 1, [5, 7])
    plant(folders["CIFAR-100"] / "train.bin", 2, [3, 77, 9, 50])
    assert digest(images(str(folders["CIFAR-10"]), samples=6, seed=1)) == "003aa6e58d8d4842"
    assert digest(images(str(folders["CIFAR-100"]), samples=6, seed=1)) == "dc69c73d8f1a6567"


def plant(path: Path, label_bytes: int, labels: list[int]) -> None:
    path.write_bytes(
        b"".join(
            bytes([99] * (label_bytes - 1) + [label]) + bytes((label + n) % 256 for n in range(3072))
            for label in labels
        )
    )


def test_measured_text_is_what_it_was(tmp_path: Path) -> None:
    """So have those of tokens, from a text as from nanoGPT's files."""
    text = write(tmp_path / "a.txt", bytes(1 + i * i % 255 for i in range(1500)))
    ids = write_ids(tmp_path / "t.bin", [i * i * 7 % 50304 for i in range(1500)])
    assert digest(tokens(text, seq=17, samples=4, vocab=256, seed=2)) == "cabc01ba7e5d55c9"
    assert digest(tokens(ids, seq=17, samples=4, vocab=50304, seed=2)) == "bd696dcc97c9c041"


# --- text -------------------------------------------------------------------------------------------------


def test_the_last_tenth_of_a_text_is_held_out(tmp_path: Path) -> None:
    """Training draws from the first nine tenths, validation reads the last one, and no byte is in both."""
    text = write(tmp_path / "text.txt", bytes(range(1, 201)))
    train = tokens(text, seq=4, samples=16, vocab=256, seed=0, split="train")
    held = tokens(text, seq=4, samples=16, vocab=256, seed=0, split="validation")
    seen = {int(token) for step in range(100) for part in train.batch(step) for token in part.flatten()}
    assert seen == set(range(1, 181))
    assert {int(token) for batch in held.held_out() for part in batch for token in part.flatten()} == set(
        range(181, 198)
    )


def test_the_built_in_text_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Python's sources, too, the last tenth is held out."""
    whole = files.built_in_text()
    train, held = (tokens(None, seq=8, samples=1, vocab=256, seed=0, split=split) for split in BOTH)
    assert train.ids.tobytes() + held.ids.tobytes() == whole
    assert len(held.ids) == len(whole) - len(whole) * 9 // 10


@pytest.mark.parametrize("given", ["folder", "train.bin"])
def test_nanogpts_val_is_held_out(tmp_path: Path, given: str) -> None:
    """Of train.bin with val.bin beside, or the folder of both, all of the one trains and all of the other is held out;
    what is measured is train.bin."""
    write_ids(tmp_path / "train.bin", list(range(1000, 1100)))
    write_ids(tmp_path / "val.bin", list(range(2000, 2021)))
    source = str(tmp_path if given == "folder" else tmp_path / given)
    train, held, measured = (
        tokens(source, seq=5, samples=3, vocab=50304, seed=0, split=split) for split in (*BOTH, "all")
    )
    assert train.ids.tolist() == measured.ids.tolist() == list(range(1000, 1100))
    assert held.ids.tolist() == list(range(2000, 2021))
    assert [inputs[:, 0].tolist() for inputs, _ in held.held_out()] == [[2000, 2005, 2010], [2015]]


def test_tokens_of_any_other_name_are_split_as_text_is(tmp_path: Path) -> None:
    """Of a .bin that is no train.bin the last tenth is held out."""
    path = write_ids(tmp_path / "mine.bin", list(range(100)))
    train, held = (tokens(path, seq=5, samples=3, vocab=50304, seed=0, split=split) for split in BOTH)
    assert (train.ids.tolist(), held.ids.tolist()) == (list(range(90)), list(range(90, 100)))


@pytest.mark.parametrize(("length", "seq", "samples"), [(601, 7, 4), (400, 39, 3), (1000, 1, 64)])
def test_held_out_text_is_whole_and_without_overlap(tmp_path: Path, length: int, seq: int, samples: int) -> None:
    """The held-out samples follow one another, as many as there are, whatever the seed."""
    ids = list(range(length))
    path = write_ids(tmp_path / "mine.bin", ids)
    made = [
        tokens(path, seq=seq, samples=samples, vocab=50304, seed=seed, split="validation") for seed in (0, 5)
    ]  # fmt: skip
    first, second = (torch.cat([inputs for inputs, _ in source.held_out()]).flatten().tolist() for source in made)
    assert first == second
    held = ids[length * 9 // 10 :]
    assert first == held[: (len(held) - 1) // seq * seq]


def test_fewer_held_out_batches_are_spread(tmp_path: Path) -> None:
    """So many batches of all samples are taken from end to end, in order and none twice; no more than there are."""
    path = write_ids(tmp_path / "mine.bin", list(range(4010)))
    source = tokens(path, seq=4, samples=5, vocab=50304, seed=0, split="validation")
    starts = [inputs[:, 0].tolist() for inputs, _ in source.held_out(2)]
    assert [len(one) for one in starts] == [5, 5]
    assert [start for one in starts for start in one] == [3609 + 40 * n for n in range(10)]
    assert len(list(source.held_out(1000))) == len(list(source.held_out())) == 20


def test_an_epoch_of_text_has_as_many_tokens_as_there_are(tmp_path: Path) -> None:
    """Batches of an epoch times tokens of a batch cover the tokens that train, and hardly more."""
    path = write_ids(tmp_path / "mine.bin", list(range(1000)))
    source = tokens(path, seq=10, samples=4, vocab=50304, seed=0, split="train")
    assert source.batches_an_epoch == 23  # 899 of 900 tokens have a next one: 89 samples, 22 batches and one over


def test_a_batch_of_training_text_follows_from_seed_and_step() -> None:
    """A step's batch is the same however often and in whatever order it is drawn, and another by another seed."""
    one, other = (tokens(None, seq=16, samples=4, vocab=256, seed=seed, split="train") for seed in (0, 1))
    later = one.batch(9)[0]
    one.batch(0)
    assert torch.equal(later, one.batch(9)[0])
    assert not torch.equal(later, other.batch(9)[0])


# --- images -----------------------------------------------------------------------------------------------


def test_no_digit_is_in_both_parts() -> None:
    """The digits that train and those held out are all of them, none is in both, and each class is in both with its
    share, a quarter more or less."""
    train, held, every = (images(None, samples=2000, seed=0, split=split) for split in (*BOTH, "all"))
    (some, labels), (others, held_labels) = next(train.held_out()), next(held.held_out())
    assert (len(some), len(others)) == (train.count, held.count) == (1438, 359)
    assert identities(some) + identities(others) == identities(next(every.held_out())[0])
    assert not set(identities(some)) & set(identities(others))
    for found in (labels, held_labels):
        assert (found.bincount(minlength=10) * 10 / len(found)).sub(1).abs().max() < 0.25


def test_cifars_test_images_are_held_out(tmp_path: Path) -> None:
    """Training goes through the training files alone, validation through the test file, in order."""
    folder = cifar10(tmp_path)
    train = images(folder, samples=8, seed=1, split="train")
    held = images(folder, samples=2, seed=1, split="validation")
    assert (train.count, held.count, train.batches_an_epoch) == (20, 3, 3)
    assert sorted(number for step in range(3) for number in numbers(train.batch(step)[0])) == list(range(20))
    assert [(numbers(pictures), labels.tolist()) for pictures, labels in held.held_out()] == [
        ([100, 101], [4, 5]), ([102], [6]),
    ]  # fmt: skip
    assert {
        number for step in range(50) for number in numbers(images(folder, samples=8, seed=1).batch(step)[0])
    } == set(range(20))


def test_cifar_100_has_one_file_of_each(tmp_path: Path) -> None:
    """CIFAR-100's train.bin trains, and its test.bin is held out under its fine labels."""
    write_images(tmp_path / "train.bin", 2, [99, 0, 50], first=0)
    write_images(tmp_path / "test.bin", 2, [77], first=100)
    train, held = (images(str(tmp_path), samples=3, seed=0, split=split) for split in BOTH)
    assert sorted(train.batch(0)[1].tolist()) == [0, 50, 99]
    assert next(held.held_out())[1].tolist() == [77]


@pytest.mark.parametrize(("total", "samples", "seed"), [(20, 8, 0), (20, 5, 3), (7, 64, 1), (1, 1, 0)])
def test_an_epoch_has_every_sample_once(total: int, samples: int, seed: int) -> None:
    """Each epoch is a permutation cut into batches, of which the last is what is left."""
    each = order.batches_an_epoch(total, samples)
    for epoch in range(3):
        batches = [order.epoch_batch(total, samples, seed, epoch * each + batch) for batch in range(each)]
        assert all(len(batch) == samples for batch in batches[:-1])
        assert sorted(np.concatenate(batches).tolist()) == list(range(total))


def test_each_epoch_and_seed_has_an_order_of_its_own() -> None:
    """Orders differ from epoch to epoch and from seed to seed, and come back when they are asked for again."""
    orders = {
        (seed, epoch): order.epoch_batch(50, 50, seed, epoch).tolist() for seed in range(4) for epoch in range(4)
    }  # fmt: skip
    assert len({tuple(one) for one in orders.values()}) == 16
    order._permutation.cache_clear()
    assert all(order.epoch_batch(50, 50, *key).tolist() == one for key, one in orders.items())


def test_an_order_shares_no_generator_with_batches_or_augmentation() -> None:
    """Orders of epochs, batches with replacement and augmentation draw from different streams under equal numbers."""
    streams = {
        tuple(np.random.default_rng(key).integers(0, 2**32, size=4).tolist())
        for key in ((3, 5), (3, 5, order._ORDER), (3, 5, augment._AUGMENT))
    }
    assert len(streams) == 3


# --- augmentation -----------------------------------------------------------------------------------------


def test_an_augmented_image_is_a_moved_one(tmp_path: Path) -> None:
    """Each image of CIFAR is moved by at most four pixels each way, black coming in, and mirrored or not; all of these
    occur."""
    for n in range(1, 6):
        plant(tmp_path / f"data_batch_{n}.bin", 1, [n, 2 * n - 1])
    plain, moved = (
        images(str(tmp_path), samples=10, seed=0, split="train", augment=augmenting) for augmenting in (False, True)
    )
    layout = cifar.CIFARS[0]
    black = torch.from_numpy(
        (0 - np.array(layout.mean, dtype=np.float32)) / np.array(layout.std, dtype=np.float32)
    ).view(3, 1, 1)
    found = {
        place_of(other, one, black)
        for step in range(40)
        for one, other in zip(plain.batch(step)[0], moved.batch(step)[0], strict=True)
    }
    assert {down for down, _, _ in found} == {right for _, right, _ in found} == set(range(9))
    assert {flipped for _, _, flipped in found} == {False, True}


def place_of(moved: Tensor, image: Tensor, black: Tensor) -> tuple[int, int, bool]:
    """Where in the image [3, 32, 32] with four pixels of black around a crop begins, and whether it is mirrored."""
    padded = black.repeat(1, 40, 40)
    padded[:, 4:36, 4:36] = image
    return next(
        (down, right, mirrored)
        for down, right, mirrored in itertools.product(range(9), range(9), (False, True))
        if torch.equal(moved.flip(2) if mirrored else moved, padded[:, down : down + 32, right : right + 32])
    )


def test_an_augmented_batch_has_the_labels_of_the_plain_one() -> None:
    """Augmentation changes no label and no order, follows from seed and step, and leaves what is held out alone."""
    plain, moved, again = (
        images(None, samples=100, seed=4, split="train", augment=augmenting) for augmenting in (False, True, True)
    )
    assert torch.equal(plain.batch(3)[1], moved.batch(3)[1])
    assert not torch.equal(plain.batch(3)[0], moved.batch(3)[0])
    moved.batch(0)
    assert torch.equal(moved.batch(3)[0], again.batch(3)[0])
    assert torch.equal(next(plain.held_out())[0], next(moved.held_out())[0])


def test_digits_are_never_mirrored() -> None:
    """A digit keeps its sense and its squares: it is moved by one pixel of its own at most, to all nine places."""
    plain, moved = (images(None, samples=64, seed=0, split="train", augment=on) for on in (False, True))
    places = {
        place_of(other, one, torch.full((3, 1, 1), -1.0))
        for one, other in zip(plain.batch(0)[0], moved.batch(0)[0], strict=True)
    }
    assert places == {(down, right, False) for down in (0, 4, 8) for right in (0, 4, 8)}


def test_a_training_batch_lies_in_torchs_allocator() -> None:
    """An augmented batch shares no memory with NumPy."""
    pictures, labels = images(None, samples=3, seed=0, split="train", augment=True).batch(0)
    assert pictures.is_contiguous()
    assert pictures.untyped_storage().nbytes() == 3 * 3 * 32 * 32 * 4
    assert labels.untyped_storage().nbytes() == 3 * 8


# --- what will do -----------------------------------------------------------------------------------------


def refused(kind: str, path: object, message: str, seq: int | None = 4, vocab: int | None = None) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        splits.check(kind, None if path is None else str(path), seq, vocab)
    assert "\n" not in str(caught.value)


def test_missing_files_are_named_with_the_layout(tmp_path: Path) -> None:
    """A file that is missing is named, with the files that should be there and the archive that has them."""
    site = "https://www.cs.toronto.edu/~kriz/cifar.html"
    layout = f"data_batch_1.bin … data_batch_5.bin and test_batch.bin, as in cifar-10-binary.tar.gz from {site}"
    refused("images", tmp_path / "none", f"is not there: expected the path of the folder .*{layout}, or train.bin")
    folder = Path(cifar10(tmp_path / "ten"))
    splits.check("images", str(folder))
    for name in ("data_batch_3.bin", "test_batch.bin"):
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        refused("images", folder, f"has no {name}: expected {layout}")
        write(folder / name, content)
    write(folder / "test_batch.bin", content[:-1])
    refused("images", folder, "test_batch.bin' has 9218 bytes, no whole number of CIFAR-10's")
    write_images(tmp_path / "train.bin", 2, [1], first=0)
    refused(
        "images",
        tmp_path,
        f"has no test.bin: expected train.bin and test.bin, as in cifar-100-binary.tar.gz from {site}",
    )


def test_the_archives_own_folder_is_asked_for(tmp_path: Path) -> None:
    """Where the folder around CIFAR's is given, the error names the one to give."""
    cifar10(tmp_path / "cifar-10-batches-bin")
    refused("images", tmp_path, "but its folder 'cifar-10-batches-bin' has: give that")


def test_pickles_are_never_read(tmp_path: Path) -> None:
    """The Python version of CIFAR is refused by name, without a look into its files."""

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, ("raise SystemExit('a pickle was loaded')",))

    for name in ("data_batch_1", "batches.meta"):
        write(tmp_path / name, pickle.dumps(Trap()))
    refused("images", tmp_path, "is the Python version of CIFAR, pickles, which are never read: expected")


def test_text_without_its_held_out_part_is_refused(tmp_path: Path) -> None:
    """A train.bin alone, a part shorter than a sample, and a token of val.bin outside the vocabulary are refused."""
    path = write_ids(tmp_path / "train.bin", list(range(100)))
    refused("text", path, "has no val.bin beside it: expected a folder with train.bin and val.bin, raw uint16 tokens")
    write_ids(tmp_path / "val.bin", [1, 2, 3, 4])
    refused("text", path, "val.bin' has 4 tokens: a sample of 4 needs 5")
    write_ids(tmp_path / "val.bin", [1, 2, 300, 4, 5])
    refused("text", tmp_path, "val.bin' holds token 300, outside a vocabulary of 256", vocab=256)
    splits.check("text", str(tmp_path), 4, 301)
    short = write(tmp_path / "short.txt", bytes(range(1, 41)))
    refused("text", short, "short.txt, its last tenth' has 4 tokens: a sample of 4 needs 5")
    splits.check("text", short, 3)


def test_a_folder_of_tokens_is_no_folder_of_images(tmp_path: Path) -> None:
    """nanoGPT's folder, which has a train.bin as CIFAR-100's, is text of nanoGPT's vocabulary."""
    write_ids(tmp_path / "train.bin", list(range(100)))
    write_ids(tmp_path / "val.bin", list(range(100)))
    refused("images", tmp_path, "is a folder of nanoGPT's tokens: expected the folder of the binary version of CIFAR")
    assert files.vocab_of("text", str(tmp_path)) == nanogpt.VOCAB
    files.check("text", str(tmp_path), 4, 50304)
    with pytest.raises(UsageError, match="token 99, outside a vocabulary of 99"):
        files.check("text", str(tmp_path), 4, 99)


def test_a_model_with_input_of_its_own_is_refused() -> None:
    """A model that reads its data in its own way has no part held out."""
    refused(None, None, "holds nothing out")  # type: ignore[arg-type]


def test_what_the_built_in_data_lack_is_nothing() -> None:
    """Without data there are digits and the built-in text, and each is split."""
    splits.check("images", None)
    splits.check("text", None, 256, 256)


def test_data_are_named(tmp_path: Path) -> None:
    """Tables and the marks of published numbers go by what the data are."""
    write_images(tmp_path / "train.bin", 2, [1], first=0)
    text, ids = write(tmp_path / "a.txt", b"text"), write_ids(tmp_path / "mine.bin", [1])
    assert splits.name_of("images", None) == "digits"
    assert splits.name_of("images", cifar10(tmp_path / "ten")) == "CIFAR-10"
    assert splits.name_of("images", str(tmp_path)) == "CIFAR-100"
    assert [splits.name_of("text", path) for path in (None, text, ids)] == [
        "built-in text", "text", "nanoGPT tokens",
    ]  # fmt: skip


def test_an_experiment_asks_for_its_data(tmp_path: Path) -> None:
    """Data that are missing, or are others, are refused with what is wanted, its layout and where to get it."""
    ten = cifar10(tmp_path / "ten")
    splits.require("CIFAR-10", "images", ten)
    splits.require("digits", "images", None)
    for wanted, kind, given, message in (
        (
            "CIFAR-10",
            "images",
            None,
            "no data is given: this is about CIFAR-10; give with --data the folder .*cifar-10-bin",
        ),
        ("CIFAR-100", "images", ten, "ten' is CIFAR-10: this is about CIFAR-100; give .*train.bin and test.bin, as in"),
        ("digits", "images", ten, "is CIFAR-10: this is about the digits; leave --data out"),
        ("nanoGPT tokens", "text", None, "give with --data a folder with train.bin and val.bin, raw uint16"),
    ):
        with pytest.raises(UsageError, match=message):
            splits.require(wanted, kind, given)
    with pytest.raises(ValueError, match="data called 'MNIST': expected one of CIFAR-10, CIFAR-100"):
        splits.require("MNIST", "images", None)


def test_a_digest_of_training_data_has_what_is_held_out(tmp_path: Path) -> None:
    """Of train.bin the digest changes with val.bin beside it; of other data it is the digest of what is measured."""
    path = write_ids(tmp_path / "train.bin", [1, 2, 3])
    assert splits.digest(path) == files.digest(path)
    write_ids(tmp_path / "val.bin", [4])
    first = splits.digest(path)
    write_ids(tmp_path / "val.bin", [5])
    assert len({first, splits.digest(path), files.digest(path)}) == 3
    assert splits.digest(None) == files.digest(None)
    assert splits.digest(str(tmp_path)) == files.digest(str(tmp_path))


def test_splits_are_checked_without_torch() -> None:
    """A parent that checks what a training run needs imports neither torch nor numpy."""
    code = (
        "import sys; from bench.data import splits; splits.check('text', None, 8, 256); splits.check('images', None); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_images_are_counted_without_reading_them(tmp_path: Path) -> None:
    """How many images a split has is known before anything runs, and is what batches are drawn from."""
    ten = cifar10(tmp_path)
    for source in (None, ten):
        for split in (*BOTH, "all"):
            assert splits.image_count(source, split) == images(source, samples=1, seed=0, split=split).count


def test_one_place_may_hold_several_sets(tmp_path: Path) -> None:
    """Of a folder with the archives' own folders in it, the one with what is wanted is taken; else what was
    given, unless it holds other sets."""
    ten, hundred = tmp_path / "cifar-10-batches-bin", tmp_path / "cifar-100-binary"
    cifar10(ten)
    hundred.mkdir()
    write_images(hundred / "train.bin", 2, [1], first=0)
    assert splits.below("CIFAR-10", str(tmp_path)) == splits.below("CIFAR-10", str(ten)) == str(ten)
    assert splits.below("CIFAR-100", str(tmp_path)) == str(hundred)
    with pytest.raises(UsageError, match=r"and no nanoGPT tokens: expected a folder with train.bin and val.bin"):
        splits.below("nanoGPT tokens", str(tmp_path))
    assert splits.below("CIFAR-10", str(tmp_path / "none")) == str(tmp_path / "none")
    assert splits.below("CIFAR-10", None) is None
