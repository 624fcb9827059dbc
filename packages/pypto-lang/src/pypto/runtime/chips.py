"""Chip callables from the generated C++ in an output directory."""

from __future__ import annotations

import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pypto.runtime.manifest import OutputDirectoryError, chip_directory
from pypto.runtime.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from simpler_runtime import ChipCallable


def build(directory: Path, chips: Sequence[str], progress: ProgressCallback) -> dict[str, ChipCallable]:
    """Compile the kernels and orchestrations of ``chips``, all in one batch, and put the callables together.

    What was compiled before comes from the compiler's cache, so this is also how a directory is loaded again; C++ that
    was edited by hand there is compiled anew.

    Raises:
        simpler_runtime.CompilerNotFoundError: there is no C++ compiler.
        simpler_runtime.KernelCompileError: the compiler refused a file.
        OutputDirectoryError: a file is missing or damaged.
    """
    from simpler_runtime import ChipCallable, CoreType, Kernel, TensorArgType

    configs = {name: _read_config(directory / chip_directory(name)) for name in chips}
    objects = _compile(directory, configs, progress)
    return {
        name: ChipCallable.build(
            name=name,
            orchestration=objects[_path(name, orchestration["source"])],
            signature=[TensorArgType[tag] for tag in orchestration["signature"]],
            scalar_count=orchestration["scalar_count"],
            kernels=[
                Kernel(
                    func_id=kernel["func_id"],
                    name=kernel["name"],
                    core_type=CoreType[kernel["core_type"]],
                    object=objects[_path(name, kernel["source"])],
                )
                for kernel in kernels
            ],
        )
        for name, (orchestration, kernels) in configs.items()
    }


_Config = tuple[dict[str, Any], list[dict[str, Any]]]


def _path(chip: str, source: str) -> str:
    return f"{chip_directory(chip)}/{source}"


def _read_config(folder: Path) -> _Config:
    path = folder / "kernel_config.py"
    try:
        config = runpy.run_path(str(path))
        return config["ORCHESTRATION"], config["KERNELS"]
    except (OSError, SyntaxError, KeyError) as error:
        raise OutputDirectoryError(f"{path} can't be read: {error!r}", hint="compile the program again") from error


def _compile(directory: Path, configs: dict[str, _Config], progress: ProgressCallback) -> dict[str, bytes]:
    """Path of each C++ file → its shared object."""
    from simpler_runtime import CompileUnit, KernelCompiler

    paths = [
        _path(name, part["source"])
        for name, (orchestration, kernels) in configs.items()
        for part in (*kernels, orchestration)
    ]
    try:
        sources = {path: (directory / path).read_text(encoding="utf-8") for path in paths}
    except OSError as error:
        raise OutputDirectoryError(
            f"{error.filename} can't be read: {error}", hint="compile the program again"
        ) from error
    # A kernel that several orchestrations use stands in each one's folder; it is compiled once.
    unique = {source: path for path, source in reversed(sources.items())}
    units = [CompileUnit(name=str(directory / path), source=source) for source, path in unique.items()]
    step = "compile kernels"
    progress(Progress(step, 0, len(units)))
    count = 0

    def finished(unit: CompileUnit) -> None:
        nonlocal count
        count += 1
        progress(Progress(step, count, len(units), Path(unit.name).stem))

    objects = KernelCompiler().compile(units, on_done=finished)
    by_source = {unit.source: found for unit, found in zip(units, objects, strict=True)}
    return {path: by_source[source] for path, source in sources.items()}
