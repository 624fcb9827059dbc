"""Chip callables from generated C++."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from pypto.errors import OutputDirectoryError
from pypto.runtime.output_directory import OutputDirectory, chip_directory
from pypto.runtime.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from simpler_runtime import ChipCallable


def build(output: OutputDirectory, progress: ProgressCallback) -> dict[str, ChipCallable]:
    """Compile the kernels and chip orchestrations of a program, all in one batch, and put the callables together.

    What was compiled before comes from the compiler's cache, so this is also how a directory is loaded again; C++ that
    was edited by hand there is compiled anew.

    Returns the callable of each chip orchestration.

    Raises:
        simpler_runtime.CompilerNotFound: there is no C++ compiler.
        simpler_runtime.CompileFailed: the compiler refused a file.
        OutputDirectoryError: a file is missing or damaged.
    """
    from simpler_runtime import ChipCallable, CoreType, Kernel, TensorArgType

    configs = {name: _read_config(output, name) for name in output.manifest.chips}
    objects = _compile(output, configs, progress)
    return {
        name: ChipCallable.build(
            name=name,
            orchestration=objects[_path(name, orchestration)],
            # A kernel may leave a part of an output as it was, which only OUTPUT_EXISTING allows for.
            signature=[TensorArgType["OUTPUT_EXISTING" if tag == "OUT" else tag] for tag in orchestration["signature"]],
            scalar_count=orchestration["scalar_count"],
            kernels=[
                Kernel(
                    func_id=kernel["func_id"],
                    name=kernel["name"],
                    core_type=CoreType[kernel["core_type"]],
                    object=objects[_path(name, kernel)],
                )
                for kernel in kernels
            ],
        )
        for name, (orchestration, kernels) in configs.items()
    }


_Part = dict[str, Any]  # a kernel or orchestration, as kernel_config.py describes it
_Config = tuple[_Part, list[_Part]]


def _path(chip: str, part: _Part) -> str:
    return f"{chip_directory(chip)}/{part['source']}"


def _read_config(output: OutputDirectory, chip: str) -> _Config:
    path = f"{chip_directory(chip)}/kernel_config.py"
    names: dict[str, Any] = {}
    try:
        exec(compile(output.read(path), str(output.path / path), "exec"), names)
        return names["ORCHESTRATION"], names["KERNELS"]
    except (SyntaxError, NameError, KeyError) as error:
        message = f"{output.path / path} can't be read: {error!r}"
        raise OutputDirectoryError(message, hint="compile the program again") from error


def _compile(output: OutputDirectory, configs: dict[str, _Config], progress: ProgressCallback) -> dict[str, bytes]:
    """Path of each C++ file → its shared object."""
    from simpler_runtime import CompileUnit, KernelCompiler

    parts = [(chip, part) for chip, (orchestration, kernels) in configs.items() for part in (*kernels, orchestration)]
    sources = {_path(chip, part): output.read(_path(chip, part)).decode() for chip, part in parts}
    units = [CompileUnit(name=str(output.path / path), source=source) for path, source in sources.items()]
    step = "compile kernels"
    progress(Progress(step, 0, len(units)))
    count = 0

    def finished(name: str, cached: bool, seconds: float) -> None:
        nonlocal count
        count += 1
        progress(Progress(step, count, len(units), PurePath(name).stem))

    return dict(zip(sources, KernelCompiler().compile(units, on_done=finished), strict=True))
