"""What tasks execute, and how it is named across processes.

A callable is known everywhere by the sha256 of what it is. ``Worker.register`` returns a handle; two registrations of
the same content give two handles that live and die on their own, the content goes with the last of them.
"""

from __future__ import annotations

import hashlib
import marshal
import threading
from collections.abc import Callable
from enum import Enum
from typing import Any

from simpler_runtime import ChipCallable

from simpler.errors import RegistrationFailed, UnknownCallable
from simpler.memory.pickling import dumps_shared
from simpler.protocol import DEPTH

MAX_CHIP_CALLABLES = 64  # slots a chip has
UNKNOWN = DEPTH  # the weight of what may take any time


class CallableKind(Enum):
    """What a callable is."""

    CHIP_CALLABLE = "chip callable"
    PYTHON_FUNCTION = "python function"


class TargetNamespace(Enum):
    """Whose registry resolves the digest."""

    LOCAL_CHIP = "chips of this host"
    LOCAL_PYTHON = "SubWorkers of this host"


class Entry:
    """One content in the registry.

    ``weight`` says how much of a mailbox its tasks fill; the engine learns it from how long they take.
    """

    __slots__ = ("content", "digest", "handles", "kind", "name", "target", "weight")

    def __init__(self, digest: bytes, kind: CallableKind, name: str, target: Any, content: bytes | None) -> None:
        self.digest = digest
        self.kind = kind
        self.name = name
        self.target = target
        self.content = content  # what running children are sent; None if it cannot be pickled, or was sent
        self.handles = 0
        self.weight = UNKNOWN


class CallableHandle:
    """Names a registered callable in ``submit_*``. Made by ``Worker.register``.

    Attributes:
        name: of the function or chip callable, for messages.
        digest: 32 bytes, sha256 of the content; equal for equal content.
        kind: chip callable or Python function.
        namespace: where it can run.
    """

    __slots__ = ("__weakref__", "_entry", "_registry", "digest", "kind", "name", "namespace")

    def __init__(self, registry: Registry, entry: Entry) -> None:
        self._registry = registry
        self._entry: Entry | None = entry
        self.digest = entry.digest
        self.kind = entry.kind
        self.name = entry.name
        self.namespace = (
            TargetNamespace.LOCAL_CHIP if entry.kind is CallableKind.CHIP_CALLABLE else TargetNamespace.LOCAL_PYTHON
        )

    def __repr__(self) -> str:
        gone = "" if self._entry else ", unregistered"
        return f"<CallableHandle {self.name} ({self.kind.value}) {self.digest.hex()[:12]}{gone}>"

    def __reduce__(self) -> Any:
        raise TypeError(f"{self!r} belongs to the worker it was registered with and cannot be sent elsewhere")


class Registry:
    """The callables of one worker: digest → entry."""

    def __init__(self, shared: Callable[[], tuple[int, int]] = lambda: (0, 0)) -> None:
        """``shared`` says from where to where memory lies that the children see too."""
        self.entries: dict[bytes, Entry] = {}
        self._shared = shared
        self._lock = threading.Lock()

    def identify(self, target: Callable[..., Any] | ChipCallable) -> Entry:
        """The entry this content has, or a new one that is not in the registry yet."""
        entry = _chip_entry(target) if isinstance(target, ChipCallable) else _python_entry(target, *self._shared())
        return self.entries.get(entry.digest, entry)

    def add(self, entry: Entry) -> CallableHandle:
        """A new handle to ``entry``."""
        with self._lock:
            if entry.handles == 0:
                self.entries[entry.digest] = entry
            entry.handles += 1
        return CallableHandle(self, entry)

    def resolve(self, handle: CallableHandle) -> Entry:
        """What ``handle`` names. UnknownCallable if it was unregistered or is another worker's."""
        if not isinstance(handle, CallableHandle):
            raise UnknownCallable(f"{handle!r} is not a handle: pass what Worker.register returned for it")
        if handle._registry is not self:
            raise UnknownCallable(f"{handle!r} was registered with another worker; register it with this one too")
        entry = handle._entry
        if entry is None:
            raise UnknownCallable(f"{handle!r} was unregistered; register the callable again")
        return entry

    def remove(self, handle: CallableHandle) -> Entry | None:
        """End one handle. Returns the entry if that was the last one: it is out of the registry then."""
        entry = self.resolve(handle)
        handle._entry = None
        with self._lock:
            entry.handles -= 1
            if entry.handles:
                return None
            del self.entries[entry.digest]
        return entry

    def check_room(self, entry: Entry) -> None:
        """RegistrationFailed if ``entry`` is one chip callable more than a chip has slots for."""
        if entry.kind is CallableKind.CHIP_CALLABLE and not entry.handles:
            chips = [other.name for other in self.entries.values() if other.kind is CallableKind.CHIP_CALLABLE]
            if len(chips) >= MAX_CHIP_CALLABLES:
                raise RegistrationFailed(
                    f"cannot register {entry.name}: a chip holds {MAX_CHIP_CALLABLES} callables; unregister one first"
                )


def _digest(kind: CallableKind, content: bytes) -> bytes:
    return hashlib.sha256(b"simpler.callable.1\0" + kind.name.encode() + b"\0" + content).digest()


def _chip_entry(target: ChipCallable) -> Entry:
    content = target.to_bytes()
    kind = CallableKind.CHIP_CALLABLE
    return Entry(_digest(kind, content), kind, target.name, target, content)


def _python_entry(target: Callable[..., Any], start: int, end: int) -> Entry:
    if not callable(target):
        raise RegistrationFailed(f"{type(target).__qualname__} is neither a ChipCallable nor a function")
    kind = CallableKind.PYTHON_FUNCTION
    name = getattr(target, "__qualname__", None) or type(target).__qualname__
    content: bytes | None
    try:
        content = dumps_shared(target, start, end)
    except Exception:  # whatever a captured object's __reduce__ raises
        content = None  # children forked later inherit it; it is the same content only as itself
        identity = f"{getattr(target, '__module__', '')}:{name}@{id(target):x}".encode()
    else:
        identity = content
        code = getattr(target, "__code__", None)
        if code is not None:  # importable functions are pickled by name; a reloaded module has new code under it
            identity += marshal.dumps(code, 2)
    return Entry(_digest(kind, identity), kind, name, target, content)
