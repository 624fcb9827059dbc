"""Compiled kernels on disk: found by what they were made of, checked when they are read, never in the way."""

from __future__ import annotations

import contextlib
import hashlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diskcache import Cache  # type: ignore[import-untyped]

SIZE_LIMIT = 512 << 20  # bytes; some ten thousand kernels. The oldest go first
LOCK_TIMEOUT = 5.0  # seconds to wait for another process that is writing
_warned: set[Path] = set()


def default_directory() -> Path:
    """``$SIMPLER_CACHE_DIR``, else "simpler" in the user's cache directory."""
    chosen = os.environ.get("SIMPLER_CACHE_DIR")
    if chosen:
        return Path(chosen)
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("simpler", appauthor=False))


class KernelCache:
    """Bytes by key in a directory that processes share.

    A directory that can't be used (read-only, full, damaged) makes every look-up miss, after one warning: compiling
    goes on without it. Use as ``with KernelCache(directory) as cache``; for one thread.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._cache: Cache | None = None

    def __enter__(self) -> KernelCache:
        from diskcache import Cache

        with self._usable():
            # Objects go by age of storing: ordering by use would write to the disk at every look-up.
            self._cache = Cache(
                str(self.directory / "kernels"),
                timeout=LOCK_TIMEOUT,
                size_limit=SIZE_LIMIT,
                eviction_policy="least-recently-stored",
            )
        return self

    def __exit__(self, *_: object) -> None:
        with self._usable():
            if self._cache is not None:
                self._cache.close()
        self._cache = None

    def get(self, key: str) -> bytes | None:
        """What was put under ``key``; None if there is nothing, or not the bytes that were put."""
        entry = None
        with self._usable():
            if self._cache is not None:
                entry = self._cache.get(key)
        if not isinstance(entry, bytes) or hashlib.sha256(entry[32:]).digest() != entry[:32]:
            return None
        return entry[32:]

    def put(self, key: str, content: bytes) -> None:
        """Keeps ``content`` under ``key``, if it can."""
        with self._usable():
            if self._cache is not None:
                self._cache.set(key, hashlib.sha256(content).digest() + content)

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        """Turns a failure of the disk into a warning and an unused cache."""
        import sqlite3

        from diskcache import Timeout

        try:
            yield
        except Timeout:
            return  # another process holds it for long: this entry is not looked up or kept
        except (OSError, sqlite3.Error) as error:
            self._cache = None
            if self.directory not in _warned:
                _warned.add(self.directory)
                warnings.warn(
                    f"compiled kernels are not kept: the cache in {self.directory} can't be used ({error}). "
                    "Remove it if it is damaged, or set SIMPLER_CACHE_DIR to a directory that can be written.",
                    RuntimeWarning,
                    stacklevel=2,
                )
