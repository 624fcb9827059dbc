"""Runs the tests of the native code.

python tools/native_tests.py rust          unit, property and kill tests; every interleaving of lock-free parts (loom)
python tools/native_tests.py rust-tsan     what has threads, under ThreadSanitizer
python tools/native_tests.py rust-targets  compiles for the other systems whose standard library is installed
python tools/native_tests.py miri          what does no system call, under Miri
python tools/native_tests.py fuzz          any bytes where a peer may leave them; --seconds N for each target
python tools/native_tests.py cpp           as shipped, under AddressSanitizer with UBSan, and under ThreadSanitizer

rust-tsan, miri and fuzz want a nightly compiler, miri that component too: what is not there is said and passed over.
With SIMPLER_TEST_ALL=1 the full product: every type in the C++ tests, 10,000 kills and forks, a minute of fuzzing a
target.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cpp_build
import toolchain
from cpp_build import LIMIT_S
from report import not_run
from turns import turn

ROOT = Path(__file__).resolve().parent.parent
MANIFEST = ROOT / "crates" / "Cargo.toml"
FUZZ = ROOT / "crates" / "fuzz"
# Other flags have a folder each there: or everything would be built again, each time.
TARGET = ROOT / "crates" / "target"
TARGETS = ("aarch64-unknown-linux-gnu", "x86_64-apple-darwin", "aarch64-apple-darwin")
THREADED: tuple[str, ...] = ("races", "mailbox", "claims", "sides", "payloads", "heap_ring", "peers", "region")
# The instrumentation that libFuzzer is driven by.
FUZZER_FLAGS = (
    "--cfg fuzzing -Cdebug-assertions -Zsanitizer=address -Cpasses=sancov-module"
    " -Cllvm-args=-sanitizer-coverage-level=4"
    " -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
    " -Cllvm-args=-sanitizer-coverage-trace-compares"
)
ALL = os.environ.get("SIMPLER_TEST_ALL") == "1"


def run(*command: str | Path, **environment: str) -> None:
    """Run a command to its end; raises CalledProcessError when it fails, TimeoutExpired when it never ends."""
    subprocess.run(list(command), check=True, env=os.environ | environment, timeout=LIMIT_S)


def rust() -> None:
    counts = {"SIMPLER_IPC_KILLS": "2000"}
    if ALL:
        counts = {"SIMPLER_IPC_KILLS": "10000", "SIMPLER_IPC_FORKS": "10000", "PROPTEST_CASES": "2000"}
    unsaid = {name: count for name, count in counts.items() if name not in os.environ}
    # The bindings are tested from Python; compiling them here would compile PyO3 once more.
    run("cargo", "test", "--manifest-path", MANIFEST, "-p", "simpler-ipc", **unsaid)
    print("Rust tests under loom", flush=True)
    command, environment = loom()
    run(*command, **environment)


Command = tuple[list[str], dict[str, str]]
"""A command, and what is more in its environment."""


def loom() -> Command:
    chosen = ["--release", "--manifest-path", str(MANIFEST), "-p", "simpler-ipc", "--test", "loom"]
    return ["cargo", "test", *chosen], {"RUSTFLAGS": "--cfg loom", "CARGO_TARGET_DIR": str(TARGET / "loom")}


@contextlib.contextmanager
def built_ahead(suites: list[str]) -> Iterator[None]:
    """Meanwhile build the tests of those Rust suites that have a folder each, with what CPU time is left over.

    Who needs one before it is built waits at cargo's lock. What does not build is told where it is used.
    """
    host = answer("rustc", "+nightly", "--print", "host-tuple")
    commands = [loom()] if "rust" in suites else []
    if host and "rust-tsan" in suites:
        commands.append(tsan(host)[0])
    if host and "fuzz" in suites:
        commands.append(fuzz_build(host))
    script = " ; ".join(
        shlex.join(["env", *(f"{name}={value}" for name, value in environment.items()), *command])
        + (" --no-run" if "test" in command else "")
        for command, environment in commands
    )
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        ["nice", "-n", "10", "sh", "-c", script or ":"], stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # mostly it has ended
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def answer(*command: str) -> str | None:
    """What a command prints; None if it fails or is not there."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def nightly_host(what: str) -> str | None:
    """The system that the nightly compiler compiles for; None, and it is said, if there is no such compiler."""
    host = answer("rustc", "+nightly", "--print", "host-tuple")
    if host is None:
        not_run(what, "there is no nightly compiler (rustup toolchain install nightly)")
    return host


def tsan(host: str) -> tuple[Command, tuple[str, ...]]:
    """The command, and the tests that it leaves out: without the library's source what that orders is hidden."""
    flags = "-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer --cfg tsan"
    sysroot = Path(answer("rustc", "+nightly", "--print", "sysroot") or "")
    tests, build_std, suppressions = THREADED, ["-Zbuild-std"], ""
    if not (sysroot / "lib" / "rustlib" / "src" / "rust" / "library").is_dir():
        # One program without mutexes and channels, and without a test harness.
        tests, build_std = THREADED[:1], []
        suppressions = f"suppressions={ROOT / 'tools' / 'tsan-suppressions.txt'}"
    environment = {
        "RUSTFLAGS": flags,
        "RUSTDOCFLAGS": flags,
        "CARGO_TARGET_DIR": str(TARGET / "tsan"),
        "TSAN_OPTIONS": f"halt_on_error=1 {suppressions}",
    }
    named = [argument for test in tests for argument in ("--test", test)]
    chosen = ["--manifest-path", str(MANIFEST), "-p", "simpler-ipc", "--target", host, *build_std, *named]
    return (["cargo", "+nightly", "test", *chosen], environment), THREADED[len(tests) :]


def rust_tsan() -> None:
    host = nightly_host("Rust tests under ThreadSanitizer")
    if host is None:
        return
    (command, environment), left_out = tsan(host)
    if left_out:
        not_run(f"{', '.join(left_out)} under ThreadSanitizer", "needs rustup +nightly component add rust-src")
    print("Rust tests under ThreadSanitizer", flush=True)
    run(*command, **environment)


def rust_targets() -> None:
    for target in TARGETS:
        libraries = answer("rustc", "--print", "target-libdir", "--target", target)
        if libraries is None or not Path(libraries).is_dir():
            not_run(f"compiling for {target}", f"its standard library is not installed (rustup target add {target})")
            continue
        print(f"compiling for {target}", flush=True)
        run("cargo", "check", "--manifest-path", MANIFEST, "-p", "simpler-ipc", "--all-targets", "--target", target)


def miri() -> None:
    if answer("cargo", "+nightly", "miri", "--version") is None:
        not_run("Rust tests under Miri", "it is not installed (rustup +nightly component add miri rust-src)")
        return
    print("Rust tests under Miri", flush=True)
    # Miri knows no memfd and no futex across mappings: what it can run is the protocols, over memory of its own.
    chosen = ["--manifest-path", str(MANIFEST), "-p", "simpler-ipc", "--test", "protocol"]
    run("cargo", "+nightly", "miri", "test", *chosen, CARGO_TARGET_DIR=str(TARGET / "miri"))


def fuzz_build(host: str) -> Command:
    chosen = ["--release", "--manifest-path", str(FUZZ / "Cargo.toml"), "--target", host]
    environment = {"RUSTFLAGS": FUZZER_FLAGS, "CARGO_TARGET_DIR": str(TARGET / "fuzz")}
    return ["cargo", "+nightly", "build", *chosen], environment


def fuzz(seconds: int = 10) -> None:
    if seconds == 0:
        print("no fuzzing: the full product has it (hatch run test:all)", flush=True)
        return
    host = nightly_host("fuzzing")
    if host is None:
        return
    missing = toolchain.missing(toolchain.BUILD[:1])  # libFuzzer is C++
    if missing:
        not_run("fuzzing", "there is no C++ compiler")
        return
    print("building the fuzz targets", flush=True)
    command, environment = fuzz_build(host)
    run(*command, **environment)
    programs = TARGET / "fuzz" / host / "release"
    targets = sorted(path.stem for path in (FUZZ / "fuzz_targets").glob("*.rs"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # each is one thread's work
        said = pool.map(lambda name: fuzz_target(programs / name, seconds), targets)
        for target, words in zip(targets, said, strict=True):
            print(f"fuzzed {target}: {words}", flush=True)


def fuzz_target(program: Path, seconds: int) -> str:
    """Fuzz one target for a while; its last words. Raises CalledProcessError for a find, which it prints."""
    # What was found interesting is kept, and begun with the next time.
    corpus, artifacts = (TARGET / "fuzz" / kind / program.name for kind in ("corpus", "artifacts"))
    for folder in (corpus, artifacts):
        folder.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=4096"]
    command = [str(program), *limits, f"-artifact_prefix={artifacts}/", str(corpus)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if done.returncode != 0:
        print(done.stdout, file=sys.stderr)
        done.check_returncode()
    return done.stdout.splitlines()[-1].lower()


def cpp(build_only: bool = False) -> None:
    missing = toolchain.missing(toolchain.TEST)
    if missing:
        raise SystemExit("\n".join(missing))
    for flavour in cpp_build.FLAVOURS:
        if flavour == "all-types" and not ALL:
            continue
        print(f"C++ tests, {flavour}", flush=True)
        with turn(f"native_tests.py cpp, {flavour}"):
            cpp_build.build(flavour, tests=True)
        if not build_only:
            cpp_build.test(flavour)


SUITES: dict[str, Callable[[], None]] = {
    "rust": rust,
    "rust-tsan": rust_tsan,
    "rust-targets": rust_targets,
    "miri": miri,
    "fuzz": fuzz,
    "cpp": cpp,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", choices=[[], *SUITES], metavar="suite", help="all if none is named")
    parser.add_argument("--seconds", type=int, default=10, help="how long to fuzz each target; 0: not at all")
    parser.add_argument("--build-only", action="store_true", help="of cpp: build its tests and run none")
    chosen = parser.parse_args()
    suites = chosen.suites or list(SUITES)
    seconds = 60 if ALL else chosen.seconds
    try:
        with built_ahead([name for name in suites if name != "fuzz" or seconds > 0]):
            for name in suites:
                if name == "fuzz":
                    fuzz(seconds)
                elif name == "cpp":
                    cpp(chosen.build_only)
                else:
                    SUITES[name]()
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
