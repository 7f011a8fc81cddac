from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import data
from bench.data import cifar, files, nanogpt
from bench.data.images import images
from bench.data.text import tokens
from bench.errors import UsageError
from bench.models import Input


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def write_bin(path: Path, ids: list[int]) -> str:
    return write(path, np.array(ids, dtype="<u2").tobytes())


def write_cifar(folder: Path, name: str, label_bytes: int, labels: list[int]) -> bytes:
    """Records whose pixels count up from their label, so that each tells which it is."""
    records = b"".join(
        bytes([99] * (label_bytes - 1) + [label]) + bytes((label + n) % 256 for n in range(3072)) for label in labels
    )
    (folder / name).write_bytes(records)
    return records


# --- the built-in text ------------------------------------------------------------------------------------


def test_built_in_text_is_pythons_own_sources() -> None:
    """The built-in text begins with the first source by name, is capped at 4 MiB and the same every time."""
    text = files.built_in_text()
    first = min(Path(os.__file__).parent.glob("*.py"))
    assert text.startswith(first.read_bytes())
    assert len(text) == files.built_in_bytes() <= 4 * 2**20
    assert text == files.built_in_text()
    assert b"class " in text


def test_built_in_text_leaves_out_other_peoples_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in the library's folder that is no module of the library is not read."""
    write(tmp_path / "ast.py", b"second")
    write(tmp_path / "abc.py", b"first ")
    write(tmp_path / "sitecustomize.py", b"mine")
    monkeypatch.setattr(files.sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setattr(files, "_library_sources", files._library_sources.__wrapped__)
    assert files.built_in_text() == b"first second"


def test_a_python_without_its_sources_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the library's sources are not installed the error says to give a file."""
    monkeypatch.setattr(files.sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setattr(files, "_library_sources", files._library_sources.__wrapped__)
    with pytest.raises(UsageError, match="give a file with --data"):
        files.built_in_text()


# --- batches of tokens ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seq", "samples", "seed"), [(1, 1, 0), (7, 3, 1), (33, 5, 2)])
def test_targets_are_the_inputs_one_token_on(seq: int, samples: int, seed: int) -> None:
    """Each target is the token after its input, and both are int64 [B, T] cut from the text."""
    source = tokens(None, seq=seq, samples=samples, vocab=256, seed=seed)
    inputs, targets = source.batch(0)
    assert inputs.shape == targets.shape == (samples, seq)
    assert inputs.dtype == targets.dtype == torch.int64
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    text = files.built_in_text()
    for row, last in zip(inputs.tolist(), targets[:, -1].tolist(), strict=True):
        assert bytes([*row, last]) in text


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_batch_follows_from_seed_and_step(seed: int) -> None:
    """The same seed and step give the same batch in any order; other steps and seeds give others."""
    first, again, other = (tokens(None, seq=16, samples=4, vocab=256, seed=s) for s in (seed, seed, seed + 1))
    later = first.batch(5)
    first.batch(0)
    assert torch.equal(later[0], again.batch(5)[0])
    assert not torch.equal(later[0], first.batch(6)[0])
    assert not torch.equal(later[0], other.batch(5)[0])


def test_a_text_of_one_sample_has_that_one(tmp_path: Path) -> None:
    """T + 1 tokens suffice, and every batch is made of them."""
    path = write(tmp_path / "short.txt", bytes(range(1, 9)))
    inputs, targets = tokens(path, seq=7, samples=3, vocab=256, seed=0).batch(4)
    assert inputs.tolist() == [list(range(1, 8))] * 3
    assert targets.tolist() == [list(range(2, 9))] * 3


def test_every_sample_of_a_text_is_drawn(tmp_path: Path) -> None:
    """Starts range over the whole text, its first and its last sample included."""
    path = write(tmp_path / "text.txt", bytes(range(1, 11)))
    source = tokens(path, seq=4, samples=8, vocab=256, seed=0)
    assert {start for step in range(20) for start in source.batch(step)[0][:, 0].tolist()} == set(range(1, 7))


def test_tokens_of_nanogpt_are_read_as_16_bits(tmp_path: Path) -> None:
    """A .bin file is little-endian uint16 tokens, in nanoGPT's vocabulary."""
    ids = [50303, 1, 256, 40000, 7]
    path = write_bin(tmp_path / "train.bin", ids)
    inputs, targets = tokens(path, seq=4, samples=1, vocab=50304, seed=0).batch(0)
    assert inputs.tolist() == [ids[:4]]
    assert targets.tolist() == [ids[1:]]


def test_a_token_outside_the_vocabulary_is_refused(tmp_path: Path) -> None:
    """A batch with a token of the vocabulary's size or more raises UsageError with both numbers."""
    path = write_bin(tmp_path / "train.bin", [50304] * 9)
    with pytest.raises(UsageError, match="token 50304, outside a vocabulary of 50304"):
        tokens(path, seq=4, samples=1, vocab=50304, seed=0).batch(0)


def test_batches_lie_in_torchs_allocator(tmp_path: Path) -> None:
    """A batch shares no memory with NumPy, even where it has a single row."""
    path = write(tmp_path / "text.txt", b"some text")
    inputs, targets = tokens(path, seq=8, samples=1, vocab=256, seed=0).batch(0)
    assert inputs.untyped_storage().nbytes() == targets.untyped_storage().nbytes() == 8 * 8


# --- batches of images ------------------------------------------------------------------------------------


def test_digits_are_enlarged_to_the_input_of_the_vit() -> None:
    """Each pixel of an 8×8 digit becomes a square of 4×4 in three equal channels between −1 and 1."""
    pictures, labels = images(None, samples=5, seed=0).batch(0)
    assert pictures.shape == (5, 3, 32, 32)
    assert pictures.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert torch.equal(pictures[:, 0], pictures[:, 1])
    assert torch.equal(pictures[:, 0], pictures[:, 2])
    small = pictures[:, :, ::4, ::4]
    assert torch.equal(pictures, small.repeat_interleave(4, 2).repeat_interleave(4, 3))
    assert (pictures.min(), pictures.max()) == (-1, 1)


def test_digits_keep_their_labels() -> None:
    """Every picture drawn is one of scikit-learn's under its own label, and all ten digits occur."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    labels_of = {image.tobytes(): int(label) for image, label in zip(bunch.images, bunch.target, strict=True)}
    source = images(None, samples=50, seed=3)
    pictures, labels = source.batch(1)
    back = (pictures[:, 0, ::4, ::4].double().numpy() + 1) * 8
    assert [labels_of[one.tobytes()] for one in back] == labels.tolist()
    assert source.classes == len(labels.unique()) == 10
    assert source.count == 1797


def test_digits_are_read_without_importing_scikit_learn() -> None:
    """Importing it takes longer than a small case; a fresh process that has drawn a batch has not."""
    code = (
        "import sys; from bench.data.images import images; images(None, samples=5, seed=0).batch(0); "
        "sys.exit('sklearn' in sys.modules)"
    )
    root = Path(__file__).resolve().parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_digits_that_lie_elsewhere_are_asked_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its file is not where it was, the digits are the same."""
    found = images(None, samples=50, seed=3).batch(1)
    monkeypatch.setattr("bench.data.images.DIGITS_FILE", "nowhere.csv")
    asked = images(None, samples=50, seed=3).batch(1)
    assert all(torch.equal(one, other) for one, other in zip(found, asked, strict=True))


@pytest.mark.parametrize("seed", [0, 5])
def test_a_batch_of_images_follows_from_seed_and_step(seed: int) -> None:
    """The same seed and step give the same images and labels; another step gives others."""
    first, again = (images(None, samples=4, seed=seed) for _ in range(2))
    for one, two in zip(first.batch(2), again.batch(2), strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(first.batch(2)[0], first.batch(3)[0])


@pytest.mark.parametrize(
    ("names", "label_bytes", "classes"), [(("data_batch_1.bin", "data_batch_2.bin"), 1, 10), (("train.bin",), 2, 100)]
)
def test_cifar_is_read_from_all_its_files(
    tmp_path: Path, names: tuple[str, ...], label_bytes: int, classes: int
) -> None:
    """Pixels are normalised by channel under the label of their record (CIFAR-100: the fine one)."""
    labels = iter([3, 0, 9, 5, 7, 1])
    for name in names:
        write_cifar(tmp_path, name, label_bytes, list(itertools.islice(labels, 6 // len(names))))
    source = images(str(tmp_path), samples=40, seed=0)
    assert (source.count, source.classes) == (6, classes)
    pictures, found = source.batch(0)
    assert set(found.tolist()) == {3, 0, 9, 5, 7, 1}
    layout = cifar.find(str(tmp_path))[0]
    for picture, label in zip(pictures, found.tolist(), strict=True):
        pixels = torch.tensor([(label + n) % 256 for n in range(3072)], dtype=torch.float64).view(3, 32, 32) / 255
        mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (layout.mean, layout.std))
        torch.testing.assert_close(picture.double(), (pixels - mean) / std, rtol=0, atol=1e-5)


def test_a_label_that_is_no_class_is_refused(tmp_path: Path) -> None:
    """A folder of some other binary files shows by its labels."""
    write_cifar(tmp_path, "data_batch_1.bin", 1, [9])
    write_cifar(tmp_path, "data_batch_2.bin", 1, [3, 10, 4])
    with pytest.raises(UsageError, match=r"data_batch_2.bin': image 1 has label 10 among 10 classes"):
        images(str(tmp_path), samples=2, seed=0)


# --- what data will do ------------------------------------------------------------------------------------


def test_the_vocabulary_follows_the_data(tmp_path: Path) -> None:
    """Bytes have 256 tokens, nanoGPT's files 50304, images none."""
    path = write_bin(tmp_path / "train.bin", [1, 2, 3])
    assert data.vocab_of("text", None) == 256
    assert data.vocab_of("text", write(tmp_path / "a.txt", b"text")) == 256
    assert data.vocab_of("text", path) == 50304
    assert data.vocab_of("images", None) is None


@pytest.mark.parametrize("at", [0, 5, 12])
def test_every_token_is_held_against_the_vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """A check finds the largest token wherever it stands, and passes the vocabulary that has it."""
    monkeypatch.setattr(nanogpt, "TOKENS_AT_ONCE", 4)
    ids = [7] * 13
    ids[at] = 300
    path = write_bin(tmp_path / "train.bin", ids)
    data.check("text", path, 4, 301)
    with pytest.raises(UsageError, match="token 300, outside a vocabulary of 300: give --vocab 301 or more"):
        data.check("text", path, 4, 300)


def test_tokens_are_read_once_as_long_as_they_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second check reads nothing, nor does the first beyond the largest id there is; another content is read."""
    read = []
    memmap = np.memmap
    monkeypatch.setattr(nanogpt, "TOKENS_AT_ONCE", 2)
    monkeypatch.setattr(np, "memmap", lambda *args, **kwargs: Watched(memmap(*args, **kwargs), read))
    path = write_bin(tmp_path / "train.bin", [1, 2, 65535, 3, 4, 5])
    for _ in range(2):
        with pytest.raises(UsageError, match="token 65535"):
            data.check("text", path, 2, 50304)
    assert read == [slice(0, 2), slice(2, 4)]
    data.check("text", write_bin(tmp_path / "train.bin", [1, 2, 3, 4]), 2, 50304)
    assert read[2:] == [slice(0, 2), slice(2, 4)]


class Watched:
    """An array that notes which slices of it are taken."""

    def __init__(self, ids: np.memmap, read: list[slice]) -> None:
        self.ids, self.read = ids, read

    def __getitem__(self, which: slice) -> np.ndarray:
        self.read.append(which)
        return self.ids[which]


def test_data_is_checked_without_torch() -> None:
    """Asking for the vocabulary, a check and a digest imports neither torch nor numpy."""
    code = (
        "import sys; from bench import data; data.check('text', None, 8); data.vocab_of('images', None); "
        "data.digest(None); sys.exit(any(name in sys.modules for name in ('torch', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_a_digest_is_of_the_content(tmp_path: Path) -> None:
    """Equal files have equal digests wherever they lie, one changed byte another."""
    one, two = write(tmp_path / "one.txt", b"same"), write(tmp_path / "two.txt", b"same")
    before = data.digest(one)
    assert before == data.digest(two) == "0967115f2813a3541eaef77de9d9d5773f1c0c04314b0bbfe4ff3b3b1c55b5d5"
    write(tmp_path / "one.txt", b"sane")
    assert data.digest(one) != before
    assert data.digest(None) not in (before, data.digest(one))


def test_a_digest_of_a_folder_is_of_its_files(tmp_path: Path) -> None:
    """A folder's digest changes with the content and with the name of any .bin file, not with other files."""
    write_cifar(tmp_path, "data_batch_1.bin", 1, [1])
    first = data.digest(str(tmp_path))
    write(tmp_path / "readme.html", b"")
    assert data.digest(str(tmp_path)) == first
    write_cifar(tmp_path, "data_batch_1.bin", 1, [2])
    second = data.digest(str(tmp_path))
    (tmp_path / "data_batch_1.bin").rename(tmp_path / "data_batch_2.bin")
    assert len({first, second, data.digest(str(tmp_path))}) == 3


def refused(kind: Input, path: object, message: str, seq: int | None = 4) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        data.check(kind, str(path), seq)
    assert "\n" not in str(caught.value)


def test_text_that_will_not_do_is_refused_in_one_line(tmp_path: Path) -> None:
    """A path that is not there, empty, short, odd or no text raises UsageError saying what was expected."""
    refused("text", tmp_path / "none.txt", "none.txt' is not there: expected the path of a text file")
    refused("text", "", "'' is not there")
    refused("text", "a\0b", "'a.x00b'")
    refused("text", "x" * 5000, "cannot be read|is not there")
    refused("text", tmp_path, "is a folder: a model of text reads a text file")
    refused("text", write(tmp_path / "empty.txt", b""), "is empty")
    refused("text", write(tmp_path / "short.txt", b"four"), "has 4 tokens: a sample of 4 needs 5; lower --seq")
    refused("text", write_bin(tmp_path / "short.bin", [1, 2, 3, 4]), "has 4 tokens")
    refused("text", write(tmp_path / "odd.bin", bytes(11)), "11 bytes, no whole number of uint16")
    refused("text", write(tmp_path / "picture.png", b"\x89PNG\r\n\0\0\0"), "not text .a zero byte at 6.")
    os.mkfifo(tmp_path / "pipe")
    refused("text", tmp_path / "pipe", "no regular file")


def test_a_sample_longer_than_the_built_in_text_is_refused() -> None:
    """A seq beyond the built-in 4 MiB raises UsageError before anything runs."""
    with pytest.raises(UsageError, match="'built-in text' has 4194304 tokens: a sample of 5242880 needs 5242881"):
        data.check("text", None, 5 * 2**20)


def test_images_that_will_not_do_are_refused_in_one_line(tmp_path: Path) -> None:
    """A text, a folder without images or one with torn files raises UsageError saying what was expected."""
    refused("images", write(tmp_path / "text.txt", b"text"), "is a file: a model of images reads the folder")
    refused("images", tmp_path, "neither data_batch_.*expected the folder of the binary version of CIFAR-10")
    records = write_cifar(tmp_path, "data_batch_1.bin", 1, [1, 2])
    data.check("images", str(tmp_path))
    refused("text", tmp_path, "is a folder of CIFAR images: a model of text")
    write(tmp_path / "data_batch_1.bin", records[:-1])
    refused("images", tmp_path, "6145 bytes, no whole number of CIFAR-10's 3073-byte images")


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system says against opening a file becomes a UsageError with its reason."""
    path = write(tmp_path / "secret.txt", b"some text")

    def forbidden(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", forbidden)
    refused("text", path, "secret.txt' cannot be read .Permission denied.")
