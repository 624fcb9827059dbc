"""The C++ compiler of this machine: finding it, telling it from others, the command line that builds a kernel."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from simpler_runtime.errors import CompilerNotFound

PROGRAMS = ("c++", "g++", "clang++")

# Besides the obvious: -O3 vectorises loops of unknown length; square roots vectorise only if they need not set errno,
# and comparisons only if floating-point exceptions are nothing to preserve. Results stay those of IEEE arithmetic.
FLAGS = ("-std=c++20", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-pipe")

# Variables that change what the compilers do.
ENVIRONMENT = (
    "CPATH",
    "CPLUS_INCLUDE_PATH",
    "LIBRARY_PATH",
    "COMPILER_PATH",
    "GCC_EXEC_PREFIX",
    "SDKROOT",
    "MACOSX_DEPLOYMENT_TARGET",
)

VERSION_TIMEOUT = 120.0  # seconds; the first start of a compiler from a cold disk takes some


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler.

    Attributes:
        command: absolute path of the program, then the arguments it always gets.
        version: what it prints for ``--version``.
        identity: all that makes its output differ from another's; the same text means the same objects.
    """

    command: tuple[str, ...]
    version: str
    identity: str

    def build_commands(self, include: Path, flags: tuple[str, ...], output: Path) -> list[list[str]]:
        """The command lines that make the shared object ``output``; the first reads C++ from its standard input.

        The source comes without a file name, and paths that could end in the object are mapped: the same source gives
        the same bytes wherever it is built.
        """
        compiling = [*self.command, *FLAGS, *_native_flags()]
        if "clang" not in self.version.lower():
            # GCC marks inline variables as unique in the whole process, which keeps a shared object from being closed.
            compiling.append("-fno-gnu-unique")
        compiling += [f"-ffile-prefix-map={include}=simpler", f"-I{include}", *flags]
        linking = ["-shared"] if sys.platform == "darwin" else ["-shared", "-Wl,--build-id"]
        source = ["-x", "c++", "-", "-o"]
        libraries = _loaded_libraries() if "ziglang" in self.version else []
        if not libraries:
            return [[*compiling, *linking, *source, str(output)]]
        # zig c++ would put a C++ library and an unwinder of its own into each object, and an exception that passes
        # through two unwinders ends the process. Its C driver links what it is given: the libraries in use here.
        compiled = str(output.with_suffix(".o"))
        c_driver = ["cc" if word == "c++" else word for word in self.command]
        return [
            [*compiling, "-c", *source, compiled],
            [*c_driver, *linking, *flags, compiled, *libraries, "-o", str(output)],
        ]


def find_compiler(chosen: str | None, remember: Callable[[str, Callable[[], str]], str]) -> Compiler:
    """The compiler to use: ``chosen``, else ``$CXX``, else c++, g++, clang++, else that of the ``ziglang`` package.

    Args:
        chosen: a program, perhaps with arguments, as one would type it (``"ccache g++"``). None: look for one.
        remember: ``remember(key, ask)`` gives what ``ask()`` gave an earlier time, or asks. It is used for what the
            compiler answers to ``--version``, under a key that changes when the compiler's files do.

    Raises:
        CompilerNotFound: there is none, or the one that was named is not there or doesn't run.
    """
    command = _find_command(chosen)
    # What the program starts in turn ("ccache g++") counts too.
    programs = [path for word in command if (path := shutil.which(word)) is not None]
    described = "\n".join((*command, *map(_described, programs)))
    version = remember(described, lambda: _ask_version(command))
    surroundings = [f"{name}={os.environ[name]}" for name in ENVIRONMENT if name in os.environ]
    return Compiler(command, version, "\n".join((described, version, _processor(), *surroundings)))


def _find_command(chosen: str | None) -> tuple[str, ...]:
    for origin, text in (("argument cxx", chosen), ("$CXX", os.environ.get("CXX"))):
        if text is None or not text.strip():
            continue
        words = shlex.split(text)
        program = shutil.which(words[0])
        if program is None:
            raise CompilerNotFound(f"there is no program {words[0]!r} ({origin} names it as the C++ compiler)")
        return (os.path.abspath(program), *words[1:])
    for name in PROGRAMS:
        program = shutil.which(name)
        if program is not None:
            return (os.path.abspath(program),)
    package = importlib.util.find_spec("ziglang")
    if package is not None and package.origin is not None:
        return (str(Path(package.origin).with_name("zig")), "c++")
    raise CompilerNotFound(
        f"no C++ compiler: $CXX is not set, none of {', '.join(PROGRAMS)} is on PATH, "
        "and the Python package ziglang is not installed. Install one with\n"
        "    sudo apt-get install -y g++    (Debian, Ubuntu)\n"
        "    xcode-select --install         (macOS)"
    )


def _described(program: str) -> str:
    """A file by what changes when it is replaced."""
    real = os.path.realpath(program)
    try:
        status = os.stat(real)
    except OSError as error:
        raise CompilerNotFound(f"the C++ compiler {program} can't be read: {error}") from error
    return f"{real} {status.st_size} {status.st_mtime_ns}"


def _ask_version(command: tuple[str, ...]) -> str:
    try:
        answer = subprocess.run(
            [*command, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_TIMEOUT,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        raise CompilerNotFound(f"{shlex.join(command)} --version fails:\n{error.stderr}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompilerNotFound(f"{shlex.join(command)} --version does not run: {error}") from error
    return answer.stdout


def _native_flags() -> tuple[str, ...]:
    # Clang knows -march=native on x86 alone. There both compilers prefer half of the widest vectors, for fear of what
    # some CPUs do to their frequency; Clang even takes wide ones apart that were asked for by name.
    if platform.machine().lower() in ("arm64", "aarch64"):
        return ("-mcpu=native",)
    return ("-march=native", "-mprefer-vector-width=512")


def _processor() -> str:
    """What -march=native stands for: an object in a home directory that machines share is for one kind of CPU."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return f"{platform.machine()} {platform.processor()}"
    first = text.split("\n\n", 1)[0]
    wanted = r"^(?:vendor_id|cpu family|model|model name|flags|Features|CPU (?:implementer|part|variant))\s*:.*$"
    return "\n".join(re.findall(wanted, first, re.MULTILINE))


def _loaded_libraries() -> list[str]:
    """The C++ library and the unwinder that this process has loaded."""
    try:
        mapped = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return []
    return sorted(set(re.findall(r"\S*/(?:libstdc\+\+|libgcc_s)\.so\S*$", mapped, re.MULTILINE)))
