"""A simulated AI chip: prepared callables, orchestration, cores, device memory, tile library, kernel compiler."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simpler_runtime._native import (
    IN,
    INOUT,
    NO_DEP,
    OUT,
    OUTPUT_EXISTING,
    CallConfig,
    ChipCallable,
    ChipWorker,
    ContinuousTensor,
    CoreType,
    DataType,
    Kernel,
    Platform,
    TaskArgs,
    TaskFrame,
    TensorArgType,
    platforms,
    read_task,
    runtimes,
    write_task,
)
from simpler_runtime.errors import (
    CallableError,
    CallConfigError,
    ChipError,
    CompileFailed,
    CompilerNotFound,
    DeviceMemoryError,
    KernelError,
    PlatformError,
    RingFull,
)

if TYPE_CHECKING:
    from simpler_runtime.kernel_compiler import CompileUnit, KernelCompiler

__version__ = version("simpler-runtime")

__all__ = [
    "IN",
    "INOUT",
    "NO_DEP",
    "OUT",
    "OUTPUT_EXISTING",
    "CallConfig",
    "CallConfigError",
    "CallableError",
    "ChipCallable",
    "ChipError",
    "ChipWorker",
    "CompileFailed",
    "CompileUnit",
    "CompilerNotFound",
    "ContinuousTensor",
    "CoreType",
    "DataType",
    "DeviceMemoryError",
    "Kernel",
    "KernelCompiler",
    "KernelError",
    "Platform",
    "PlatformError",
    "RingFull",
    "TaskArgs",
    "TaskFrame",
    "TensorArgType",
    "__version__",
    "include_dir",
    "platforms",
    "read_task",
    "runtimes",
    "write_task",
]


def __getattr__(name: str) -> Any:
    # Running prepared callables needs no compiler and none of what it imports.
    if name in ("KernelCompiler", "CompileUnit"):
        from simpler_runtime import kernel_compiler

        return getattr(kernel_compiler, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def include_dir() -> Path:
    """The folder to pass to a C++ compiler with -I: it holds simpler/kernel.h and the other public headers."""
    here = Path(__file__).resolve().parent
    installed = here / "include"
    return installed if installed.is_dir() else here.parents[3] / "cpp" / "include"
