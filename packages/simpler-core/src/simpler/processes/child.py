"""The other end of a mailbox: what a forked child does until it is told to end."""

from __future__ import annotations

import inspect
import os
import pickle
from collections.abc import Callable
from time import perf_counter_ns
from typing import Protocol

from simpler_ipc import CONTROL, TASK, MailboxServer
from simpler_runtime import ChipCallable, ChipWorker, TaskFrame, read_task

from simpler.arguments.bound import SubTaskArgs
from simpler.errors import RegistrationFailed, UnknownCallable
from simpler.memory.pickling import loads_shared
from simpler.memory.regions import SharedMemory
from simpler.protocol import (
    DEPTH,
    FAILED,
    FRAME_NBYTES,
    HEADER_NBYTES,
    HEADERS,
    MEDIUM_NS,
    OK,
    OK_MEDIUM,
    OK_SLOW,
    POISONED,
    SLOW_NS,
    Control,
    pack_failure,
)
from simpler.tasks.callables import CallableKind, Entry


class Executor(Protocol):
    """What makes one kind of child different from the others."""

    def hello(self) -> None: ...
    def execute(self, frame: TaskFrame, readonly: int, notes: bytes) -> None: ...
    def install(self, control: Control, content: bytes) -> None: ...
    def remove(self, control: Control) -> None: ...
    def close(self) -> None: ...


class Broken:
    """An executor that could not be made: it answers everything with the reason."""

    def __init__(self, reason: Exception) -> None:
        self._reason = reason

    def hello(self) -> None:
        raise self._reason

    def execute(self, frame: TaskFrame, readonly: int, notes: bytes) -> None:
        raise self._reason

    def install(self, control: Control, content: bytes) -> None:
        raise self._reason

    def remove(self, control: Control) -> None:
        raise self._reason

    def close(self) -> None:
        pass


class PythonExecutor:
    """Calls Python functions: a SubWorker."""

    def __init__(self, entries: dict[bytes, Entry], memory: SharedMemory, name: str) -> None:
        self._functions: dict[bytes, Callable[[SubTaskArgs], object]] = {
            entry.digest: taking_args(entry.target)
            for entry in entries.values()
            if entry.kind is CallableKind.PYTHON_FUNCTION
        }
        self._memory = memory.view
        self._start = memory.start
        self._name = name

    def hello(self) -> None:
        pass

    def close(self) -> None:
        pass

    def execute(self, frame: TaskFrame, readonly: int, notes: bytes) -> None:
        function = self._functions.get(frame.digest)
        if function is None:
            raise unknown(frame.digest, self._name)
        function(SubTaskArgs(frame.args(), self._memory, self._start, readonly, notes))

    def install(self, control: Control, content: bytes) -> None:
        try:
            function = loads_shared(content, self._memory)
        except Exception as error:  # importing the function's module can raise anything
            raise RegistrationFailed(
                f"{self._name} cannot load {control.name}: {error!r}; register it before the worker starts, or define "
                "it where running children can import it"
            ) from error
        self._functions[control.digest] = taking_args(function)

    def remove(self, control: Control) -> None:
        self._functions.pop(control.digest, None)


class ChipExecutor:
    """Holds a ChipWorker, and knows in which of its slots a digest's callable is."""

    def __init__(self, entries: dict[bytes, Entry], chip: ChipWorker, name: str) -> None:
        self._chip = chip
        self._name = name
        self._slots: dict[bytes, int] = {}
        for entry in entries.values():
            if entry.kind is CallableKind.CHIP_CALLABLE:
                self._prepare(entry.digest, entry.target)

    def hello(self) -> None:
        pass

    def close(self) -> None:
        self._chip.finalize()

    def execute(self, frame: TaskFrame, readonly: int, notes: bytes) -> None:
        slot = self._slots.get(frame.digest)
        if slot is None:
            raise unknown(frame.digest, self._name)
        self._chip.run_prepared_from_blob(
            callable_id=slot, ptr=frame.args_address, capacity=frame.args_nbytes, config=frame.config
        )

    def install(self, control: Control, content: bytes) -> None:
        self._prepare(control.digest, ChipCallable.from_bytes(content))

    def remove(self, control: Control) -> None:
        slot = self._slots.pop(control.digest, None)
        if slot is not None:
            self._chip.unregister_callable(callable_id=slot)

    def _prepare(self, digest: bytes, target: ChipCallable) -> None:
        taken = set(self._slots.values())
        slot = next((slot for slot in range(ChipWorker.MAX_CALLABLES) if slot not in taken), None)
        if slot is None:
            raise RegistrationFailed(f"{self._name} has no slot left for {target.name}")
        self._chip.prepare_callable(callable_id=slot, callable=target)
        self._slots[digest] = slot


def taking_args(function: Callable[..., object]) -> Callable[[SubTaskArgs], object]:
    """``function`` itself; if it has no parameters, one that calls it without any."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # of some built-in functions nothing is known
        return function
    return function if parameters else lambda args: function()


def unknown(digest: bytes, name: str) -> UnknownCallable:
    return UnknownCallable(f"{name} does not know callable {digest.hex()[:12]}: it was never registered with it")


def serve(server: MailboxServer, start: Callable[[], Executor], memory: SharedMemory) -> None:
    """Answer messages until SHUTDOWN. ``start`` makes the executor; if that raises, every answer says so."""
    try:
        executor = start()
    except Exception as error:  # the parent learns of it in answer to its hello
        executor = Broken(error)
    try:
        _answer_all(server, executor, memory)
    finally:
        executor.close()


def _answer_all(server: MailboxServer, executor: Executor, memory: SharedMemory) -> None:
    recv, reply, execute = server.recv, server.reply, executor.execute
    pid = os.getpid()
    failed: set[int] = set()  # tickets that tasks behind them in the mailbox may still ask for
    while True:
        request = recv(None)
        kind = request.kind
        if kind == TASK:
            payload = request.payload
            _, notes_at, readonly, *needs = HEADERS[payload[0]].unpack_from(payload)
            if needs and not failed.isdisjoint(needs):
                failed.add(request.ticket)
                reply(POISONED)
                continue
            began = perf_counter_ns()
            try:
                notes = bytes(payload[notes_at:]) if notes_at else b""
                execute(read_task(payload[HEADER_NBYTES : notes_at or None]), readonly, notes)
            except BaseException as error:  # SystemExit and all: the task failed, the child goes on
                if os.getpid() != pid:  # a process that the task forked: it came to its end here
                    os._exit(1)
                failed = {ticket for ticket in failed if ticket >= request.ticket - DEPTH}
                failed.add(request.ticket)
                reply(FAILED, pack_failure(error, FRAME_NBYTES))
            else:
                if os.getpid() != pid:
                    os._exit(0)
                took = perf_counter_ns() - began
                reply(OK if took < MEDIUM_NS else OK_MEDIUM if took < SLOW_NS else OK_SLOW)
        elif kind == CONTROL:
            try:
                _control(executor, pickle.loads(request.payload), memory)
            except Exception as error:  # the parent raises it
                reply(FAILED, pack_failure(error, FRAME_NBYTES))
            else:
                reply(OK)
        else:
            reply(OK)
            return


def _control(executor: Executor, control: Control, memory: SharedMemory) -> None:
    if control.op == "register":
        executor.install(control, memory.read(control.address, control.nbytes))
    elif control.op == "unregister":
        executor.remove(control)
    elif control.op == "hello":
        executor.hello()
    else:
        raise ValueError(f"no control operation {control.op!r}")
