"""Loading generated Python: the host orchestrator, and SubWorkers as functions simpler can run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pypto.runtime.manifest import Parameter, SubWorkerEntry
from pypto.runtime.output_directory import HOST_ORCHESTRATION, OutputDirectory, sub_worker_module


def load_host_orchestration(output: OutputDirectory) -> Callable[..., None]:
    """The function ``host_orch(orch, args, config, calls)`` of an output directory."""
    function: Callable[..., None] = _load(output, HOST_ORCHESTRATION, {})["host_orch"]
    return function


def load_sub_worker(output: OutputDirectory, entry: SubWorkerEntry, kind: str) -> Callable[[Any], None]:
    """A SubWorker as a function of simpler's task arguments, whose name is the SubWorker's.

    Args:
        kind: the arrays it gets, ``"numpy"`` or ``"torch"``.
    """
    path = sub_worker_module(entry.name)
    pickled = path.removesuffix(".py") + ".pkl"
    captured: dict[str, Any] = {}
    if pickled in output.files:
        import cloudpickle

        captured = cloudpickle.loads(output.read(pickled))
    return as_task(_load(output, path, captured)[entry.name], entry.parameters, kind)


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


def _load(output: OutputDirectory, path: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run a generated module. Gives what it defines, ``names`` among it."""
    place = output.path / path  # where tracebacks find its lines
    names |= {"__name__": f"pypto_generated.{output.manifest.name}.{place.stem}", "__file__": str(place)}
    exec(compile(output.read(path), str(place), "exec"), names)
    return names
