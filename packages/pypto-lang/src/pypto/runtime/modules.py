"""Loading generated Python: the host orchestrator, and SubWorkers as functions simpler can run."""

from __future__ import annotations

import importlib.util
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pypto.runtime.manifest import (
    HOST_ORCHESTRATION,
    Manifest,
    OutputDirectoryError,
    Parameter,
    SubWorkerEntry,
    sub_worker_module,
)


def load_host_orchestration(directory: Path, manifest: Manifest) -> Callable[..., None]:
    """The function ``host_orch(orch, args, config, calls)`` of an output directory."""
    module = _load(directory / HOST_ORCHESTRATION, f"{manifest.name}.host_orch")
    function: Callable[..., None] = module.host_orch
    return function


def load_sub_worker(directory: Path, manifest: Manifest, entry: SubWorkerEntry, kind: str) -> Callable[[Any], None]:
    """A SubWorker as a function of simpler's task arguments, whose name is the SubWorker's.

    Args:
        kind: the arrays it gets, ``"numpy"`` or ``"torch"``.
    """
    module = _load(directory / sub_worker_module(entry.name), f"{manifest.name}.{entry.name}")
    return as_task(getattr(module, entry.name), entry.parameters, kind)


def as_task(function: Callable[..., Any], parameters: tuple[Parameter, ...], kind: str) -> Callable[[Any], None]:
    """``function`` of arrays and numbers as a function of simpler's task arguments."""

    def task(args: Any) -> None:
        tensors = scalars = 0
        values: list[Any] = []
        for parameter in parameters:
            if parameter.shape is None:
                is_float = "float" in parameter.dtype
                values.append(args.scalar_float(scalars) if is_float else args.scalar(scalars))
                scalars += 1
            else:
                array = args.array(tensors)
                values.append(as_torch(array, parameter.dtype) if kind == "torch" else array)
                tensors += 1
        function(*values)

    task.__name__ = function.__name__
    task.__qualname__ = function.__qualname__
    return task


def as_torch(array: Any, dtype: str) -> Any:
    """A torch tensor on the bytes of a numpy array; bfloat16, which numpy lacks, comes as 16-bit integers."""
    import torch

    if dtype == "bfloat16":
        return torch.from_numpy(array.view("int16")).view(torch.bfloat16)
    return torch.from_numpy(array)


def _load(path: Path, name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(f"pypto_generated.{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        source = path.read_bytes()
    except OSError as error:
        raise OutputDirectoryError(f"{path} can't be read: {error}", hint="compile the program again") from error
    # Compiled here, not by the loader: its bytecode cache goes by time stamps, which a replaced directory may repeat.
    exec(compile(source, str(path), "exec"), module.__dict__)
    return module
