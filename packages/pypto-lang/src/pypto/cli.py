"""The command ``pypto``."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from pypto.errors import PyptoError
from pypto.ir.nodes import Program

INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="Compile and run programs."
)

_Target = Annotated[str, typer.Argument(metavar="FILE[:PROGRAM]", help="A Python file, and what in it is meant.")]


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        import pypto

        typer.echo(f"pypto {pypto.__version__}")
        raise typer.Exit


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(context: typer.Context, target: _Target) -> None:
    """Run a file's main(), or a program on made-up inputs where PROGRAM names one. Further arguments go to the file."""
    path, name = _split(target)
    with _reported():
        module = _import(path, context.args)
        found = _find(module, path, name, "main")
        if isinstance(found, Program):
            _run_program(found)
        else:
            _call_main(found)


@app.command()
def compile(
    target: _Target,
    platform: Annotated[str, typer.Option(help="cpu, a2a3sim or a5sim.")] = "cpu",
    output_dir: Annotated[Path | None, typer.Option(help="Where the generated files go.")] = None,
    devices: Annotated[int, typer.Option(min=1, help="Number of chips.")] = 1,
    sub_workers: Annotated[int, typer.Option(min=0, help="Number of SubWorker processes.")] = 1,
) -> None:
    """Compile a program and print where its files are."""
    path, name = _split(target)
    with _reported():
        module = _import(path, [])
        program = _find(module, path, name, None)
        if not isinstance(program, Program):
            raise PyptoError(f"{name} in {path} is no program", hint="decorate its class with @pl.program")
        typer.echo(str(_compiled(program, platform, output_dir, devices, sub_workers).output_dir))


@app.command()
def show(
    target: _Target,
    after: Annotated[str, typer.Option(help="After which pass: build, remove_dead_code, plan_memory.")] = "build",
    cpp: Annotated[bool, typer.Option("--cpp", help="The generated files instead.")] = False,
) -> None:
    """Print a program as Python after a pass, or as the C++ and Python that are generated of it."""
    path, name = _split(target)
    with _reported():
        module = _import(path, [])
        program = _find(module, path, name, None)
        if not isinstance(program, Program):
            raise PyptoError(f"{name} in {path} is no program", hint="decorate its class with @pl.program")
        typer.echo(_generated(program) if cpp else _after(program, after))


def _after(program: Program, name: str) -> str:
    from pypto import passes
    from pypto.ir.printer import print_program

    printed: dict[str, str] = {}
    passes.run_all(program, after=lambda done, new: printed.update({done: print_program(new)}))
    if name not in printed:
        raise PyptoError(f"there is no pass {name!r}", hint=f"there are {', '.join(printed)}")
    return printed[name].rstrip()


def _generated(program: Program) -> str:
    from pypto import codegen, passes
    from pypto.driver.config import DistributedConfig, config_fields
    from pypto.passes.capture import resolve_program

    lowered = passes.lowered(resolve_program(program))
    files = codegen.generate(lowered, "cpu", config_fields(DistributedConfig())).files
    texts = {path: content.decode() for path, content in files.items() if path.endswith((".cpp", ".py"))}
    return "\n".join(f"━━ {path}\n{text}" for path, text in texts.items()).rstrip()


def main() -> None:
    """Entry of the command."""
    try:
        app()
    except KeyboardInterrupt:  # before a command began
        sys.exit(INTERRUPTED)


# --- what a file holds -----------------------------------------------------------------------------------------------


def _split(target: str) -> tuple[Path, str | None]:
    file, colon, name = target.rpartition(":")
    if colon and name.isidentifier() and file:
        return Path(file), name
    return Path(target), None


def _import(path: Path, arguments: list[str]) -> types.ModuleType:
    """Import a file as the module its name says, with ``sys.argv`` and ``sys.path`` as ``python FILE`` has them."""
    if not path.is_file():
        raise PyptoError(f"there is no file {path}")
    path = path.resolve()
    sys.argv[:] = [str(path), *arguments]
    sys.path.insert(0, str(path.parent))
    name = path.stem
    if name in sys.modules or name in sys.stdlib_module_names:
        name = f"pypto_run_{name}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PyptoError(f"{path} is no Python file", hint="its name must end with .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _find(module: types.ModuleType, path: Path, name: str | None, default: str | None) -> Any:
    """What ``name`` is in the file; without a name, ``default``, else the only program there."""
    if name is not None:
        if not hasattr(module, name):
            raise PyptoError(f"{path} defines no {name}", hint=_programs_hint(module))
        return getattr(module, name)
    if default is not None and callable(getattr(module, default, None)):
        return getattr(module, default)
    programs = [value for value in vars(module).values() if isinstance(value, Program)]
    if len(programs) == 1:
        return programs[0]
    if not programs:
        raise PyptoError(f"{path} has no main() and no program", hint="define main(), or a class with @pl.program")
    raise PyptoError(f"{path} has {len(programs)} programs", hint=_programs_hint(module))


def _programs_hint(module: types.ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, Program)]
    return f"there are {', '.join(names)}: write FILE:{names[0]}" if names else "it defines no @pl.program class"


# --- running ---------------------------------------------------------------------------------------------------------


def _call_main(function: Callable[..., Any]) -> None:
    from pypto.runtime.progress import display

    if not callable(function):
        raise PyptoError(f"{function!r} is neither a function nor a program")
    required = [
        p.name
        for p in inspect.signature(function).parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if required:
        raise PyptoError(f"{function.__name__}() needs arguments ({', '.join(required)})", hint="give them defaults")
    with display():
        code = function()
    if isinstance(code, int) and code:
        raise typer.Exit(code)


def _compiled(program: Program, platform: str, output_dir: Path | None, devices: int, sub_workers: int) -> Any:
    from pypto.driver.compile import compile as compile_program
    from pypto.driver.config import DistributedConfig
    from pypto.runtime.progress import display

    config = DistributedConfig(device_ids=list(range(devices)), num_sub_workers=sub_workers)
    with display():
        return compile_program(program, platform, distributed_config=config, output_dir=output_dir)


def _run_program(program: Program) -> None:
    """Compile a program, run it once on made-up inputs, and say what came out."""
    from pypto.runtime.arguments import made_up
    from pypto.runtime.progress import display

    with _compiled(program, "cpu", None, 1, 1) as compiled, display():
        results = compiled(*made_up(compiled.manifest))
    timings = compiled.timings
    values = results if isinstance(results, tuple) else (results,)
    for name, value in zip(compiled.manifest.results, values, strict=True):
        typer.echo(f"{name}: {value.dtype}{list(value.shape)}")
    typer.echo(f"compiled in {timings.compile:.3f} s, ran in {timings.first_run:.3f} s, in {compiled.output_dir}")


# --- errors ----------------------------------------------------------------------------------------------------------


@contextmanager
def _reported() -> Iterator[None]:
    """Turn errors that explain themselves into their text and exit status 1, and Ctrl-C into 130."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        # Every package's root says so of its errors; what has no such word on it is a bug, or the user's own.
        if not getattr(type(error), "explains_itself", False):
            raise
        _complain(error)
        raise typer.Exit(1) from None


def _complain(error: Exception) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True)
    text = "\n".join([str(error), *getattr(error, "__notes__", ())])
    console.print(Text.assemble((f"{type(error).__name__}: ", "bold red"), text))


if __name__ == "__main__":
    main()
