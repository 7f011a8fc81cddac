"""The project itself: versions, documents, and that what the command line offers is documented."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import typer.main
from packaging.requirements import Requirement

import bench.resolve
import bench.suite
import cli

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))
CONSTRAINTS = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text().split("\n") if line and line[0] != "#"
)

COMMANDS: dict[str, list[str]] = {
    name: [word for parameter in command.params for word in parameter.opts if word.startswith("-")]
    for name, command in typer.main.get_command(cli.app).commands.items()
}
"""The options of each command."""


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def required(requirements: list[str]) -> set[str]:
    """The names of the requirements that hold on this machine, extras aside."""
    parsed = map(Requirement, requirements)
    return {canonical(one.name) for one in parsed if one.marker is None or one.marker.evaluate({"extra": ""})}


def test_torch_is_pinned() -> None:
    """The constraints pin torch 2.13.0, while the project allows torch 2.11 and later."""
    assert CONSTRAINTS["torch"] == "2.13.0"
    assert "torch>=2.11" in PROJECT["dependencies"]


def test_every_dependency_is_pinned() -> None:
    """Every direct and transitive dependency that is installed here has a version in the constraints."""
    todo = required(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"])
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        try:
            found = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # not needed on this platform
        seen.add(name)
        todo |= required(found) - seen
    # torch for CUDA pins its own CUDA packages, each to one version.
    own = {name for name in seen if name.startswith(("nvidia-", "cuda-", "triton"))} - {"nvidia-ml-py"}
    assert seen - own - set(CONSTRAINTS) == set()


def test_the_constraints_hold_versions_only() -> None:
    """A constraint is a canonical name and one plain version, fit for any platform."""
    for name, version in CONSTRAINTS.items():
        assert name == canonical(name)
        assert re.fullmatch(r"\d+(\.\d+)*", version), f"{name}=={version}"
    assert list(CONSTRAINTS) == sorted(CONSTRAINTS)


def test_the_version_is_stated_once(capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints the version of pyproject.toml, and no module repeats it."""
    assert cli.execute(["--version"]) == 0
    assert capsys.readouterr().out.split() == ["bdia-bench", PROJECT["version"]]
    sources = [path for layer in ("bdia", "bench", "reports") for path in (ROOT / layer).rglob("*.py")]
    assert not [path for path in [*sources, ROOT / "cli.py"] if f'"{PROJECT["version"]}"' in path.read_text()]
    assert f"version: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_changelog_has_a_section_for_this_version() -> None:
    """The changelog tells of this version, or of what is not released yet."""
    sections = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"Unreleased", PROJECT["version"]} & set(sections)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_readme(command: str) -> None:
    """The README shows each command by its name."""
    assert f"bdia-bench {command}" in README


@pytest.mark.parametrize(
    ("command", "option"), [(command, option) for command, options in COMMANDS.items() for option in options]
)
def test_every_option_is_documented(command: str, option: str) -> None:
    """The README or the docs name each option of each command."""
    assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", README + DOCUMENTS), f"{command} {option}"


@pytest.mark.parametrize("name", [*bench.resolve.names(), *bench.suite.names()])
def test_every_method_and_suite_is_documented(name: str) -> None:
    """The README or the docs name each method and each suite."""
    assert f"`{name}`" in README + DOCUMENTS


def test_links_lead_somewhere() -> None:
    """Every relative link of the documents leads to a file that is there."""
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_the_folders_of_code_say_what_they_are() -> None:
    """Every module of the project begins with a docstring."""
    for layer in ("bdia", "bench", "reports", "suites", "examples"):
        for path in (ROOT / layer).rglob("*.py"):
            assert path.read_text(encoding="utf-8").startswith('"""'), path
