"""Looking up methods: of the table, and in a file of the user's."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

import cli
from bdia.methods import METHODS
from bench import resolve
from bench.errors import UsageError
from bench.stored_run import load

PAGE = (Path(__file__).parent.parent / "docs" / "adding-a-method.md").read_text(encoding="utf-8")


@pytest.fixture
def leapfrog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The file that docs/adding-a-method.md says to save, in the working directory."""
    source = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert source is not None
    monkeypatch.chdir(tmp_path)
    Path("leapfrog.py").write_text(source[1], encoding="utf-8")
    return "leapfrog.py:LEAPFROG"


def test_the_table_comes_first() -> None:
    """Each method of the table is found by its name, and rests on no file."""
    for method in METHODS:
        assert resolve.method(method.name) is method
        assert resolve.source(method.name) is None


def test_a_method_in_a_file_goes_by_the_name_it_was_asked_for(leapfrog: str) -> None:
    """`FILE.py:NAME` gives the file's method, whose classes can be pickled."""
    method = resolve.method(leapfrog)
    assert (method.name, method.quantised, method.reversible) == (leapfrog, True, True)
    rule = method.make_rule(9)
    assert pickle.loads(pickle.dumps(rule)).bits == 9


def test_the_file_is_part_of_what_a_record_rests_on(leapfrog: str) -> None:
    """Another content is another digest."""
    before = resolve.source(leapfrog)
    Path("leapfrog.py").write_text(Path("leapfrog.py").read_text() + "\n# changed\n")
    assert resolve.source(leapfrog) != before


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (None, "gone.py:A", "gone.py: No such file"),
        ("A = 3", "f.py:A", "A of f.py is a int"),
        ("B = 3", "f.py:A", "f.py has no A; expected the name of a"),
        ("1 / 0", "f.py:A", "does not run: ZeroDivisionError"),
        ("(", "f.py:A", "does not run: SyntaxError"),
    ],
)
def test_a_file_that_will_not_do_is_one_line(
    content: str | None, name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong with the file is a usage error that names it."""
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("f.py").write_text(content)
    with pytest.raises(UsageError, match=message) as caught:
        resolve.method(name)
    assert "\n" not in str(caught.value)


def test_a_method_in_a_file_runs_like_any_other(leapfrog: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The command of docs/adding-a-method.md measures it: exact, with the gradients of its own stored twin."""
    sizes = {"depth": 3, "width": 16, "heads": 2, "seq": 8, "batch": 2, "seed": 0, "train-steps": 0, "rounds": 1}
    options = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
    assert cli.execute(["run", "quick", "--method", f"standard,{leapfrog}", "--out", "run", *options]) == 0
    found = {record.method: record for record in load(Path("run")).records}
    assert found[leapfrog].bit_exact is True
    assert found[leapfrog].gradient_error == 0.0
    assert found[leapfrog].side_bytes == 0
    assert leapfrog in capsys.readouterr().out
