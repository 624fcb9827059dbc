"""``ir.compile``: from a program to something that can be called."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import BuiltinFunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from pypto.errors import ConfigError, DeviceCountError
from pypto.ir import walk
from pypto.ir.nodes import Binary, Const, Expr, For, FunctionKind, Invoke, Program, Stmt, Var

if TYPE_CHECKING:
    from simpler_runtime import ChipCallable

    from pypto.driver.compiled_program import DistributedCompiledProgram
    from pypto.driver.config import DistributedConfig
    from pypto.runtime.output_directory import OutputDirectory
    from pypto.runtime.progress import ProgressCallback


def compile(
    program: Program,
    platform: str = "cpu",
    *,
    distributed_config: DistributedConfig | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    progress: ProgressCallback | None = None,
) -> DistributedCompiledProgram:
    """Compile a program that has a host orchestrator, or a chip orchestration alone.

    The same program for the same platform and configuration is compiled once in a process, unless its SubWorkers
    capture what may have changed, or the generated files have been touched.

    Args:
        program: what ``@pl.program`` made. A chip orchestration without a host level runs on the first chip.
        platform: what its chips are: ``"cpu"``, or a simulated chip (``"a2a3sim"``, ``"a5sim"``).
        distributed_config: how many chips and SubWorkers it runs on; one chip and no SubWorkers by default.
        output_dir: where the generated files go; an older compiled program there is replaced. By default a directory
            named after its content in the user's cache.
        progress: called with a ``pypto.runtime.progress.Progress`` as the work goes on; by default the display that is
            open hears it.

    Raises:
        PyptoError: an error in the program (its classes are in ``pypto.errors``), with file and line:
            HostOrchestratorError, UnboundVariable for a SubWorker's free variable that doesn't exist,
            DeviceCountError where it names more chips than there are, CoreMemoryFull for tiles too large for a core, …
        ConfigError: a platform, runtime or configuration that can't be used with this program.
        simpler_runtime.CompilerNotFound: there is no C++ compiler.
        simpler_runtime.CompileFailed: the C++ compiler refused generated code.
    """
    from pypto.driver.compiled_program import DistributedCompiledProgram
    from pypto.driver.config import DistributedConfig, config_fields
    from pypto.passes.capture import resolve_program
    from pypto.runtime.progress import Progress, current

    began = time.perf_counter()
    if not isinstance(program, Program):
        raise TypeError(f"ir.compile takes what @pl.program made, got {type(program).__name__}")
    config = distributed_config or DistributedConfig()
    tell = progress or current()
    fields = config_fields(config)
    key = (platform, str(fields), os.fspath(output_dir) if output_dir else None)
    program = resolve_program(program)
    made = program.made.get(key)
    if made is None or not made.is_still(program):
        tell(Progress("generate code", 0, 1, program.name))
        made = program.made[key] = _make(program, platform, config, fields, output_dir, tell)
    seconds = time.perf_counter() - began
    return DistributedCompiledProgram(made.output, made.callables, compile_seconds=seconds, progress=progress)


class _Made(NamedTuple):
    """What compiling gave, and what that depended on."""

    output: OutputDirectory
    callables: dict[str, ChipCallable]
    captured: tuple[object, ...] | None  # None: it may change without our seeing it
    files: list[tuple[Path, int, int]]  # with their times and sizes

    def is_still(self, program: Program) -> bool:
        """True where compiling again would give the same."""
        captured = _captured(program)
        if self.captured is None or captured is None or len(captured) != len(self.captured):
            return False
        if any(a is not b for a, b in zip(captured, self.captured, strict=True)):
            return False
        return all(_stamp(path) == (path, time, size) for path, time, size in self.files)


def _make(
    program: Program,
    platform: str,
    config: DistributedConfig,
    fields: dict[str, Any],
    output_dir: str | os.PathLike[str] | None,
    tell: ProgressCallback,
) -> _Made:
    from pypto import codegen, passes
    from pypto.runtime import chips
    from pypto.runtime.output_directory import OutputDirectory
    from pypto.runtime.progress import Progress

    program.entry  # noqa: B018 - raises where there is none, before anything else is looked at
    _check_platform(platform, config)
    lowered = passes.lowered(program)
    _check_devices(lowered, len(config.device_ids))
    _check_sub_workers(lowered, config.num_sub_workers)
    _check_memory(lowered, platform)
    generated = codegen.generate(lowered, platform, fields)
    output = OutputDirectory.write(generated.manifest, generated.files, Path(output_dir) if output_dir else None)
    tell(Progress("generate code", 1, 1, program.name))
    callables = chips.build(output, tell)
    return _Made(output, callables, _captured(program), [_stamp(output.path / name) for name in output.files])


def _stamp(path: Path) -> tuple[Path, int, int]:
    try:
        found = path.stat()
    except OSError:
        return path, 0, -1
    return path, found.st_mtime_ns, found.st_size


def _captured(program: Program) -> tuple[object, ...] | None:
    """Everything that SubWorkers capture; None where some of it can change and stay the same object."""
    values = [value for f in program.functions if f.sub_worker is not None for _, value in f.sub_worker.globals]
    fixed = (ModuleType, BuiltinFunctionType, type, int, float, complex, str, bytes, bool, type(None))
    return tuple(values) if all(isinstance(value, fixed) for value in values) else None


# --- checks --------------------------------------------------------------------------------------------------------


def _check_platform(name: str, config: DistributedConfig) -> None:
    from simpler_runtime import ChipWorker, PlatformError, platforms

    try:
        ChipWorker(platform=name, runtime=config.runtime)  # not started: it only looks whether there are such
    except PlatformError as error:
        raise ConfigError(str(error)) from error
    most = platforms()[name].aicpu_threads
    if config.aicpu_thread_num > most:
        raise ConfigError(f"aicpu_thread_num: {name} has {most} AICPU threads, got {config.aicpu_thread_num}")


def _check_memory(program: Program, platform: str) -> None:
    """Raises CoreMemoryFull where the tiles of a kernel don't fit the core that it runs on."""
    from simpler_runtime import platforms

    from pypto.codegen.kernel import core_type
    from pypto.passes.check_memory import check_memory

    info = platforms()[platform]
    for kernel in program.of_kind(FunctionKind.INCORE):
        core = core_type(kernel)
        capacity = info.aic_memory_bytes if core == "AIC" else info.aiv_memory_bytes
        check_memory(kernel, capacity, f"an {core} core of {platform}")


def _check_devices(program: Program, count: int) -> None:
    """Raises DeviceCountError at a ``device=`` that is certainly none of ``count`` chips."""
    host = program.require_host()
    _check_devices_of(host.body, count, {})


Range = tuple[int, int]  # least and greatest value a variable takes


def _check_devices_of(stmts: tuple[Stmt, ...], count: int, known: dict[str, Range]) -> None:
    from pypto.runtime.manifest import describe_chips

    for stmt in stmts:
        inner = known
        if isinstance(stmt, For) and (bounds := _loop_range(stmt, known)):
            inner = {**known, stmt.var.name: bounds}
        for body in walk.bodies(stmt):
            _check_devices_of(body, count, inner)
        value = getattr(stmt, "value", None)
        if not isinstance(value, Invoke) or value.device is None:
            continue
        found = _range(value.device, known)
        if found is None or (found[0] >= 0 and found[1] < count):
            continue
        wrong = found[0] if found[0] < 0 else found[1]
        raise DeviceCountError(
            f"{value.function} is sent to device {wrong}, but the program is compiled for {describe_chips(count)}",
            value.device.span,
            f"pass DistributedConfig(device_ids=[...]) with at least {wrong + 1} chips" if wrong >= 0 else None,
        )


def _loop_range(loop: For, known: dict[str, Range]) -> Range | None:
    bounds = [_range(e, known) for e in (loop.start, loop.stop, loop.step)]
    if any(b is None or b[0] != b[1] for b in bounds):
        return None
    start, stop, step = (b[0] for b in bounds if b is not None)
    values = range(start, stop, step) if step else ()
    return (min(values), max(values)) if values else None


def _range(expr: Expr, known: dict[str, Range]) -> Range | None:
    """What values an index expression takes, where that is known without running."""
    match expr:
        case Const(value=value):
            return (int(value), int(value))
        case Var(name=name):
            return known.get(name)
        case Binary(op="+" | "-" | "*" as op, lhs=lhs, rhs=rhs):
            a, b = _range(lhs, known), _range(rhs, known)
            if a is None or b is None:
                return None
            results = [x + y if op == "+" else x - y if op == "-" else x * y for x in a for y in b]
            return (min(results), max(results))
    return None


def _check_sub_workers(program: Program, count: int) -> None:
    """Raises ConfigError where SubWorkers are called but there is no process for them."""
    from pypto.codegen.queries import calls_of

    if count > 0:
        return
    for call in calls_of(program.require_host()):
        if program.function(call.function).kind is FunctionKind.SUB_WORKER:
            raise ConfigError(
                f"{program.name} calls the SubWorker {call.function}, but num_sub_workers is 0",
                call.span,
                "pass DistributedConfig(num_sub_workers=1)",
            )
