"""Temporary folders that do not stay behind."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import scratch

ROOT = Path(__file__).parent.parent
HOLDS = """\
import sys, time
from bench import scratch
with scratch.folder("test") as path:
    (path / "deep").mkdir()
    print(path, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.fixture
def holder() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that has a folder, and the folder."""
    child = subprocess.Popen([sys.executable, "-c", HOLDS], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    yield child, Path(child.stdout.readline().strip())
    child.kill()
    child.wait()
    child.stdout.close()


def test_a_folder_is_gone_afterwards(temporary: Path) -> None:
    """However it is left, and two at a time are two."""
    with scratch.folder("test") as first, scratch.folder("test") as second:
        (first / "file").write_text("x")
        assert first != second
        assert second.is_dir()
    with pytest.raises(KeyError), scratch.folder("test"):
        raise KeyError
    assert not list(temporary.iterdir())


def test_what_a_killed_process_left_is_removed(holder: tuple[subprocess.Popen[str], Path]) -> None:
    """The next one to make a folder of that kind removes it, and not while its process lives."""
    child, left = holder
    with scratch.folder("test"):
        assert (left / "deep").is_dir()
    child.kill()
    child.wait()
    with scratch.folder("other"):
        assert left.is_dir()
    with scratch.folder("test"):
        assert not left.exists()


def test_what_is_not_ours_stays(temporary: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A link that bears the name is not followed, and neither a file nor a folder of an earlier version is touched."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (temporary / "bdia-bench-test.link").symlink_to(elsewhere)
    (temporary / "bdia-bench-test.file").write_text("x")
    (temporary / "bdia-bench-test-earlier").mkdir()
    before = sorted(temporary.iterdir())
    with scratch.folder("test"):
        pass
    assert sorted(temporary.iterdir()) == before
    assert elsewhere.is_dir()


def test_a_folder_that_is_taken_away_as_it_is_made_is_made_anew(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process that removes what is left behind may be quicker than the lock."""
    make, made = tempfile.mkdtemp, []

    def taken(**options: str) -> str:
        path = make(**options)
        made.append(path)
        if len(made) == 1:
            Path(path).rmdir()
        return path

    monkeypatch.setattr(tempfile, "mkdtemp", taken)
    with scratch.folder("test") as path:
        assert [Path(one).resolve() for one in made][1:] == [path]
        assert path.is_dir()
