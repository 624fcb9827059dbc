"""The release command refuses where a check is missing, and publishes nothing unless told to."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tools"))

import constraints  # noqa: E402
import contents  # noqa: E402
import distributions  # noqa: E402
import lint  # noqa: E402
import record  # noqa: E402
import release  # noqa: E402

COMMIT = "a" * 40


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> release.State:
    """A checkout of which everything is ready, as far as files tell."""
    monkeypatch.setattr(record, "RECORDS", tmp_path / "records")
    monkeypatch.setattr(contents, "faults", lambda file: [])
    monkeypatch.setattr(contents, "not_of", lambda file, committed: [])
    monkeypatch.setenv("TWINE_REPOSITORY_URL", "https://example.org/legacy/")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [1.2.3] - 2026-01-31\n")
    (tmp_path / "CITATION.cff").write_text("cff-version: 1.2.0\nversion: 1.2.3\n")
    (tmp_path / "dist").mkdir()
    for name in constraints.NAMES:
        folder = tmp_path / "packages" / name
        folder.mkdir(parents=True)
        (folder / "pyproject.toml").write_text('[project]\nurls.Repository = "https://example.org"\n')
        stem = f"{name.replace('-', '_')}-1.2.3"
        (tmp_path / "dist" / f"{stem}.tar.gz").write_text(name)
        (tmp_path / "dist" / f"{stem}-py3-none-any.whl").write_text(name)
    crate = tmp_path / "crates" / "simpler-ipc"
    crate.mkdir(parents=True)
    (crate / "Cargo.toml").write_text('[package]\nrepository = "https://example.org"\n')
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    ready = release.State(tmp_path, "1.2.3", COMMIT)
    monkeypatch.setattr(record, "commit", lambda: COMMIT)
    for name in ("tests", "lint"):
        record.passed(name, COMMIT)
    record.passed("wheels", COMMIT, distributions.digests(ready.files))
    return ready


OFFLINE = [pair for pair in release.CHECKS if pair[1] not in (release.twine_accepts, release.cargo_accepts)]


def missing(state: release.State) -> list[str]:
    return release.missing(state, OFFLINE)


def test_a_commit_with_every_check_is_ready(state: release.State) -> None:
    assert missing(state) == []


def passed_elsewhere(state: release.State) -> None:
    for name in ("tests", "wheels"):
        path = record.RECORDS / f"{name}.json"
        path.write_text(path.read_text().replace(COMMIT, "b" * 40))


def tags(state: release.State) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    git = ["git", "-C", str(state.root), *identity]
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    subprocess.run([*git, "tag", state.tag], check=True)


def test_a_publication_that_ended_half_way_goes_on_without_the_tag_that_is_there(state: release.State) -> None:
    assert release.commands(state)[0][:2] == ["git", "tag"]
    tags(state)
    at = subprocess.run(["git", "-C", str(state.root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    ready = dataclasses.replace(state, commit=at.stdout.strip())
    assert list(release.tag_is_new(ready)) == []
    assert release.commands(ready)[0][:2] == ["git", "push"]


def test_what_lay_about_in_the_working_tree_is_found_in_a_distribution(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "worker.py").write_text("# ours\n")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "first"], check=True)
    (tmp_path / ".git" / "info" / "exclude").write_text(".env\n")
    held = {
        "simpler/worker.py": "# ours\n",
        "simpler/.env": "TOKEN=secret\n",
        "simpler/edited.py": "# theirs\n",
        "simpler/_native.abi3.so": "machine code",
        "simpler-1.2.3.dist-info/METADATA": "Name: simpler\n",
    }
    wheel, sdist = tmp_path / "simpler-1.2.3-py3-none-any.whl", tmp_path / "simpler-1.2.3.tar.gz"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in held.items():
            archive.writestr(name, text)
    with tarfile.open(sdist, "w:gz") as archive:
        for name, text in {"PKG-INFO": "Name: simpler\n", **held}.items():
            member = tarfile.TarInfo(f"simpler-1.2.3/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    at = release.State(tmp_path, "1.2.3", "HEAD")
    committed = release._contents_of(at)
    assert contents.not_of(wheel, committed) == ["simpler/.env", "simpler/edited.py"]
    assert [Path(name).name for name in contents.not_of(sdist, committed)][-2:] == [".env", "edited.py"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda s: (s.root / "CHANGELOG.md").write_text("## [1.2.3] - unreleased\n"), ["Date the release there"]),
        (lambda s: (s.root / "CITATION.cff").write_text("version: 1.2.2\n"), ["`version: 1.2.3`"]),
        (lambda s: (s.root / "crates/simpler-ipc/Cargo.toml").write_text("[package]\n"), ["names no repository"]),
        (lambda s: (s.root / "packages/chia-flow/pyproject.toml").write_text("[project]\n"), ["Repository"]),
        (lambda s: shutil.rmtree(record.RECORDS), ["that tests passed", "that lint passed", "hatch run wheels"]),
        (passed_elsewhere, ["that tests passed", "no record that wheels and sdists"]),
        (lambda s: (s.root / "dist/simpler_core-1.2.3.tar.gz").write_text("changed"), ["other files"]),
        (lambda s: (s.root / "dist/simpler_core-1.2.2.tar.gz").write_text("old"), ["other files"]),
        (
            lambda s: (s.root / "dist/simpler_core-1.2.3.tar.gz").unlink(),
            ["other files", "has no simpler_core-1.2.3.tar.gz"],
        ),
        (
            lambda s: (s.root / "dist/pypto_lang-1.2.3-py3-none-any.whl").unlink(),
            ["other files", "no wheel of pypto-lang"],
        ),
        (lambda s: os.environ.pop("TWINE_REPOSITORY_URL"), ["names no index"]),
        (lambda s: record.forget("lint"), ["that lint passed"]),
        (lambda s: (record.RECORDS / "tests.json").write_text('{"commit": '), ["that tests passed"]),
        (lambda s: (record.RECORDS / "tests.json").write_text("[]"), ["that tests passed"]),
        (lambda s: (record.RECORDS / "wheels.json").write_text('{"files": {}}'), ["no record that wheels and sdists"]),
        (tags, ["the tag v1.2.3 is that of another commit"]),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(
    state: release.State,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[release.State], object],
    said: Iterable[str],
) -> None:
    spoil(state)
    lines = missing(state)
    for line, part in zip(lines, said, strict=True):
        assert part in line


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("", "names no index"),
        (" ", "names no index"),
        ("pypi", "names no index"),
        ("https://", "names no index"),
        ("https://upload.pypi.org/legacy/", "names upload.pypi.org"),
        ("https://UPLOAD.PyPI.org:443/legacy/", "names upload.pypi.org"),
        ("https://test.pypi.org/legacy/", "names test.pypi.org"),
        ("https://pypi.org./legacy/", "names pypi.org"),
        ("https://pypi.python.org/pypi", "names pypi.python.org"),
        ("https://pypi.org.example.org/legacy/", None),
        ("http://127.0.0.1:8080/", None),
    ],
)
@pytest.mark.parametrize("name", ["pypi", "testpypi", "ours", ""])
def test_the_index_is_an_address_that_is_not_public(
    state: release.State, monkeypatch: pytest.MonkeyPatch, address: str, said: str | None, name: str
) -> None:
    monkeypatch.setenv("TWINE_REPOSITORY", name)
    monkeypatch.setenv("TWINE_REPOSITORY_URL", address)
    lines = missing(state)
    assert len(lines) == (said is not None)
    assert all(f"TWINE_REPOSITORY_URL {said}" in line for line in lines)


def test_what_a_check_could_not_run_is_said(
    state: release.State, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record.passed("tests", COMMIT, not_run=["Miri: not installed"])
    monkeypatch.setattr(release, "here", lambda: state)
    monkeypatch.setattr(release, "missing", lambda state: [])
    monkeypatch.setattr(sys, "argv", ["release.py"])
    assert release.main() == 0
    assert "not run  tests: Miri: not installed" in capsys.readouterr().out
    assert release.not_run(release.State(state.root, state.version, "b" * 40)) == []


@pytest.mark.parametrize(
    ("failing", "began", "now", "recorded"),
    [
        (None, COMMIT, COMMIT, True),
        (None, COMMIT, "b" * 40, False),
        (None, None, COMMIT, False),
        *((step, COMMIT, COMMIT, False) for step in lint.STEPS),
    ],
)
def test_lint_is_recorded_only_where_every_step_passed_on_one_commit(
    state: release.State,
    monkeypatch: pytest.MonkeyPatch,
    failing: str | None,
    began: str | None,
    now: str | None,
    recorded: bool,
) -> None:
    steps: list[str] = []
    commits = iter([began, now])

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        assert record.of("lint", COMMIT) is None  # what was recorded before holds no longer
        steps.append(command[-1].removeprefix("lint:"))
        return subprocess.CompletedProcess(command, 3 if steps[-1] == failing else 0)

    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(record, "commit", lambda: next(commits))
    assert lint.main() == (3 if failing else 0)
    assert tuple(steps) == (lint.STEPS[: lint.STEPS.index(failing) + 1] if failing else lint.STEPS)
    assert (record.of("lint", COMMIT) is not None) == recorded


def test_a_changed_working_tree_is_refused(state: release.State) -> None:
    lines = missing(release.State(state.root, state.version, None))
    assert "differs from its commit" in lines[0]
    assert len(lines) == 4  # nothing that was recorded holds for it


def test_a_wheel_with_a_fault_is_refused(state: release.State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "faults", lambda file: [f"{file.name}: no LICENSE"] if "chia" in file.name else [])
    assert missing(state) == [f"chia_flow-1.2.3{end}: no LICENSE" for end in ("-py3-none-any.whl", ".tar.gz")]


@pytest.mark.parametrize("arguments", [[], ["--publish"]])
@pytest.mark.parametrize("ready", [True, False])
def test_nothing_is_published_unless_told_to_and_ready(
    state: release.State, monkeypatch: pytest.MonkeyPatch, arguments: list[str], ready: bool
) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(release, "here", lambda: state)
    monkeypatch.setattr(release, "missing", lambda state: [] if ready else ["the tests"])
    monkeypatch.setattr(release, "is_tagged", lambda state: False)

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["release.py", *arguments])
    assert release.main() == (0 if ready else 1)
    assert ran == (release.commands(state) if ready and arguments else [])


def test_what_follows_a_failed_step_is_not_published(
    state: release.State, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(release, "here", lambda: state)
    monkeypatch.setattr(release, "missing", lambda state: [])
    monkeypatch.setattr(release, "commands", lambda state: [["true"], ["false"], ["touch", str(state.root / "there")]])
    monkeypatch.setattr(sys, "argv", ["release.py", "--publish"])
    assert release.main() == 1
    assert "false\nended with 1" in capsys.readouterr().err
    assert not (state.root / "there").exists()


@pytest.mark.parametrize(("began", "now"), [(None, None), (None, COMMIT), (COMMIT, None), (COMMIT, "b" * 40)])
def test_a_record_is_kept_of_one_clean_commit_from_beginning_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, began: str | None, now: str | None
) -> None:
    monkeypatch.setattr(record, "RECORDS", tmp_path / "records")
    monkeypatch.setattr(record, "commit", lambda: COMMIT)
    assert record.passed("tests", COMMIT)
    assert record.of("tests", COMMIT) == record.Record(COMMIT)
    assert record.of("tests", "b" * 40) is None
    monkeypatch.setattr(record, "commit", lambda: now)
    assert not record.passed("tests", began)
    assert record.of("tests", COMMIT) is None
