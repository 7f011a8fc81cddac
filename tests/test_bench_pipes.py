"""A child's pipes: lines are cut whatever comes, and nothing that comes costs more than it may."""

from __future__ import annotations

import itertools
import os
import random
import tracemalloc

from bench import pipes
from bench.pipes import Lines, Pipes, printable


def cut(*pieces: bytes, longest: int = 100) -> list[bytes]:
    found: list[bytes] = []
    lines = Lines(found.append, longest)
    for piece in pieces:
        lines.feed(piece)
    return found


def test_lines_do_not_depend_on_how_they_are_cut() -> None:
    """However the bytes are chopped up, the same lines come of them; what has no end is none."""
    chance = random.Random(0)
    text = b"one\n\ntwo\n" + b"x" * 250 + b"\nthree\nunfinished"
    for _ in range(50):
        cuts = [0, *sorted(chance.sample(range(len(text)), 12)), len(text)]
        found = cut(*(text[start:end] for start, end in itertools.pairwise(cuts)))
        assert [found[0], found[1], found[2], found[4]] == [b"one", b"", b"two", b"three"]
        assert len(found) == 5
        assert found[3].strip(b"x") == b""


def test_a_line_without_end_costs_no_more_than_the_longest() -> None:
    """Hundreds of MiB without a line break take a bounded buffer, are told once, and the next line is whole."""
    found: list[bytes] = []
    lines = Lines(found.append)
    chunk = b"x" * pipes.CHUNK
    tracemalloc.start()
    for _ in range(300 * 2**20 // len(chunk)):
        lines.feed(chunk)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    lines.feed(b"end\nnext\n")
    assert peak < 3 * pipes.LONGEST_LINE
    assert [line[:5] for line in found] == [b"xxxxx", b"next"]


def test_a_child_that_does_not_read_holds_nobody_up() -> None:
    """A job larger than a pipe goes down as it is read, and not waiting for it events come up."""
    (job_end, down), (up, events), (errors, stderr) = os.pipe(), os.pipe(), os.pipe()
    heard: list[bytes] = []
    todo = Pipes(b"j" * 2**20, down=down, up=up, errors=errors, on_line=heard.append)
    os.write(events, b"before it read\n")
    todo.wait(0)
    assert heard == [b"before it read"]
    got = 0
    while got < 2**20:
        got += len(os.read(job_end, 2**16))
        todo.wait(0)
    for pipe in (job_end, events, stderr):
        os.close(pipe)
    todo.drain()
    assert not todo.open
    todo.close()
    for pipe in (down, up, errors):
        os.close(pipe)


def test_of_complaints_the_last_line_is_kept() -> None:
    """Megabytes on standard error leave their last line, without what would move a cursor."""
    held = os.pipe(), os.pipe(), os.pipe()
    (_, down), (up, _), (errors, stderr) = held
    todo = Pipes(b"", down=down, up=up, errors=errors, on_line=lambda line: None)
    for _ in range(100):
        os.write(stderr, b"noise\n" * 5000)
        todo.wait(0)
    os.write(stderr, b"\x1b[31mit broke\xff\x00\n\n")
    todo.drain()
    assert todo.last_line() == "[31mit broke\ufffd"
    assert len(todo._errors) == pipes.KEPT
    todo.close()
    for pipe in (pipe for pair in held for pipe in pair):
        os.close(pipe)


def test_what_is_shown_can_be_shown() -> None:
    """Control characters and lone surrogates become spaces; text in any script stays."""
    assert printable("a\x07b\ud800c\nγ ½ 日本") == "a b c\nγ ½ 日本"
