"""What can go wrong on a chip, one class each. All derive from ChipError."""

from __future__ import annotations


class ChipError(Exception):
    """Base of every error of simpler_runtime.

    Attributes:
        explains_itself: its message is written for the user; a command line shows that, without a traceback.
    """

    explains_itself = True


class PlatformError(ChipError):
    """There is no such platform or runtime, or this machine can't give what it needs. Names what does work."""


class CallConfigError(ChipError, ValueError):
    """A field of CallConfig asks for more than the platform has. Names field, value and limit."""


class CallableError(ChipError):
    """A callable can't be built, loaded or called: bad slot, bad bytes, missing symbol, wrong arguments."""


class DeviceMemoryError(ChipError, MemoryError):
    """Device memory is exhausted, or an address range is not inside one live allocation of it."""


class RingFull(ChipError, MemoryError):
    """A ring of the chip is full and nothing that runs can free it.

    Attributes:
        ring: its name.
        scope: what keeps a heap ring full: the open scope of the oldest tensor in it, as its orchestration calls it.
            "the whole run" outside of any; empty where there is none.
    """

    def __init__(self, ring: str, message: str, scope: str = "") -> None:
        super().__init__(ring, message, scope)
        self.ring = ring
        self.message = message
        self.scope = scope

    def __str__(self) -> str:
        return self.message


class KernelError(ChipError):
    """A kernel, or the orchestration that submits kernels, failed. The worker stays usable.

    Attributes:
        callable: name of the ChipCallable.
        task: index of the task in its run, counted from 0; -1 for the orchestration.
        kernel: name of the kernel; the orchestration's symbol for the orchestration.
        core: id of the logical core it ran on; -1 for the orchestration.
        message: what the kernel said.
    """

    def __init__(self, callable: str, task: int, kernel: str, core: int, message: str) -> None:
        super().__init__(callable, task, kernel, core, message)
        self.callable = callable
        self.task = task
        self.kernel = kernel
        self.core = core
        self.message = message

    def __str__(self) -> str:
        if self.task < 0:
            return f"orchestration {self.kernel!r} of callable {self.callable!r} failed: {self.message}"
        return (
            f"kernel {self.kernel!r} (task {self.task} of callable {self.callable!r}, core {self.core}) "
            f"failed: {self.message}"
        )


class CompilerNotFound(ChipError):
    """No C++ compiler was found. Says where it was looked for and how to install one."""


class CompileFailed(ChipError):
    """The C++ compiler refused a kernel.

    Attributes:
        name: the kernel.
        command: the command line that failed.
        output: the compiler's own words.
        source: the C++ source.
    """

    def __init__(self, name: str, command: str, output: str, source: str) -> None:
        super().__init__(name, command, output, source)
        self.name = name
        self.command = command
        self.output = output
        self.source = source

    def __str__(self) -> str:
        return f"kernel {self.name!r} does not compile\n$ {self.command}\n{self.output}"
