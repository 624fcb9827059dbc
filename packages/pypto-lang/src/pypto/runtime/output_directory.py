"""The generated files of a program, in memory and on disk.

::

    output_dir/
    ├── program.json                          name, platform, configuration, signature
    ├── orchestration/host_orch.py            the host orchestrator
    ├── next_levels/<chip orchestration>/
    │   ├── kernel_config.py                  which kernels there are, and what takes what
    │   ├── kernels/<kernel>.cpp
    │   └── orchestration/<chip orchestration>.cpp
    └── sub_workers/<SubWorker>.py            and <SubWorker>.pkl where it captured what can't be written down
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pypto.errors import OutputDirectoryError
from pypto.runtime.manifest import Manifest

MANIFEST = "program.json"
HOST_ORCHESTRATION = "orchestration/host_orch.py"
_SUFFIXES = (".py", ".cpp", ".json", ".pkl")
_STALE_S = 3600  # a half-written directory this old is nobody's any more
_ATTEMPTS = 100  # of putting a directory in place while other compiles do the same


def chip_directory(name: str) -> str:
    """Where a chip orchestration's files are."""
    return f"next_levels/{name}"


def sub_worker_module(name: str) -> str:
    """Where a SubWorker's module is; what it captured is beside it, as ``.pkl``."""
    return f"sub_workers/{name}.py"


@dataclass(frozen=True, slots=True)
class OutputDirectory:
    """A program as files.

    The files are kept in memory: what runs is what was compiled, whatever happens to the directory afterwards.

    Attributes:
        path: the directory, absolute.
        manifest: what ``program.json`` says.
        files: path inside the directory → content.
    """

    path: Path
    manifest: Manifest
    files: Mapping[str, bytes]

    def read(self, name: str) -> bytes:
        """The content of a file. Raises OutputDirectoryError where there is none of that name."""
        try:
            return self.files[name]
        except KeyError:
            raise OutputDirectoryError(f"{self.path / name} is missing", hint="compile the program again") from None

    @property
    def direct(self) -> str | None:
        """The chip orchestration that a call may run at once; None where the host orchestrator has more to do."""
        if self.manifest.direct is None:
            return None
        name, sha256 = self.manifest.direct
        return name if hashlib.sha256(self.read(HOST_ORCHESTRATION)).hexdigest() == sha256 else None

    @staticmethod
    def load(path: Path) -> OutputDirectory:
        """Read a directory that ``write`` wrote. Raises OutputDirectoryError where it holds no compiled program."""
        try:
            manifest = Manifest.parse((path / MANIFEST).read_bytes(), path / MANIFEST)
            places = [place for place in path.rglob("*") if place.suffix in _SUFFIXES and place.is_file()]
            files = {place.relative_to(path).as_posix(): place.read_bytes() for place in places}
        except OSError as error:
            hint = "ir.compile(program, output_dir=…) writes such a directory"
            raise OutputDirectoryError(f"{path} holds no compiled program: {error}", hint=hint) from error
        return OutputDirectory(path, manifest, files)

    @staticmethod
    def write(manifest: Manifest, files: Mapping[str, bytes], path: Path | None) -> OutputDirectory:
        """Put files into a directory, whole or not at all; an earlier compiled program there is replaced.

        Without a ``path`` it is a directory of the user's cache that is named after the content.

        Raises OutputDirectoryError where ``path`` is a file, holds something else, or can't be written.
        """
        target = _cached(manifest, files) if path is None else path.absolute()
        output = OutputDirectory(target, manifest, files)
        try:
            if not output._is_there():
                _check_replaceable(target)
                output._write()
        except OSError as error:
            message = f"output_dir {target} can't be written: {error}"
            raise OutputDirectoryError(message, hint="name another one with output_dir=") from error
        return output

    def _write(self) -> None:
        import shutil
        import tempfile

        target = self.path
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        # A sibling, so that renaming stays within one file system. Others never see a half-written directory.
        fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            for name, content in self.files.items():
                place = fresh / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
            fresh.chmod(0o755)
            self._swap_in(fresh)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def _is_there(self) -> bool:
        try:
            return all((self.path / name).read_bytes() == content for name, content in self.files.items())
        except OSError:
            return False

    def _swap_in(self, fresh: Path) -> None:
        """Make ``fresh`` be the directory, in the place of what was there. Other compiles may be doing the same."""
        import shutil

        for _ in range(_ATTEMPTS):
            try:
                fresh.rename(self.path)  # also over an empty directory
                return
            except NotADirectoryError:
                raise
            except OSError:
                if self._is_there():
                    return  # another compile of the same program was quicker
            old = fresh.with_name(f"{fresh.name}-old")
            with contextlib.suppress(FileNotFoundError):  # another compile took it away
                self.path.rename(old)
                shutil.rmtree(old)
        raise OutputDirectoryError(f"output_dir {self.path} is being replaced by other compiles all the time")


def _cached(manifest: Manifest, files: Mapping[str, bytes]) -> Path:
    from platformdirs import user_cache_path

    sha = hashlib.sha256()
    for name, content in files.items():
        sha.update(f"{name}\0{len(content)}\0".encode())
        sha.update(content)
    return user_cache_path("pypto", appauthor=False) / "programs" / f"{manifest.name}-{sha.hexdigest()[:16]}"


def _sweep(target: Path) -> None:
    """Remove what compiles that were killed left beside ``target``."""
    import shutil

    for place in target.parent.iterdir():
        if place.name.startswith(f".{target.name}-"):
            with contextlib.suppress(FileNotFoundError):  # of a compile that has ended meanwhile
                if time.time() - place.stat().st_mtime > _STALE_S:
                    shutil.rmtree(place)


def _check_replaceable(target: Path) -> None:
    """Raises OutputDirectoryError where ``target`` is or holds something that pypto did not write."""
    if target.is_file():
        raise OutputDirectoryError(f"output_dir {target} is a file", hint="name a directory")
    # Looked at twice: the first look may have met a directory that another compile was just removing.
    if _is_foreign(target) and _is_foreign(target):
        hint = "name a new or empty directory, or one that an earlier compile wrote"
        raise OutputDirectoryError(f"output_dir {target} holds files that are no compiled program", hint=hint)


def _is_foreign(target: Path) -> bool:
    try:
        names = [place.name for place in target.iterdir()]
    except FileNotFoundError:
        return False
    return bool(names) and MANIFEST not in names
