"""The processes of a compiled program: one ``simpler.Worker`` with what it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pypto.errors import DeviceCountError
from pypto.runtime.arguments import Bound
from pypto.runtime.manifest import describe_chips
from pypto.runtime.modules import as_torch, load_host_orchestration, load_sub_worker
from pypto.runtime.output_directory import OutputDirectory

if TYPE_CHECKING:
    from simpler import CallableHandle, Worker
    from simpler_runtime import CallConfig, ChipCallable


def call_config(config: Mapping[str, Any]) -> CallConfig:
    """How a program's chip tasks are run, by the fields of its DistributedConfig."""
    from simpler_runtime import CallConfig

    return CallConfig(block_dim=config["block_dim"], aicpu_thread_num=config["aicpu_thread_num"])


class Calls:
    """What a generated host orchestrator submits.

    Attributes:
        chip: chip orchestration → handle, or whatever else the orchestrator that submits it takes.
        sub: SubWorker → handle.
    """

    def __init__(self, chip: Mapping[str, Any], sub: Mapping[str, Any], device_count: int) -> None:
        self.chip = chip
        self.sub = sub
        self._device_count = device_count

    def device(self, index: int, where: str) -> int:
        """``index`` into ``device_ids``. Raises DeviceCountError where there is no such chip."""
        if not 0 <= index < self._device_count:
            raise DeviceCountError(
                f"{where}: device={index}, but the program was compiled for {describe_chips(self._device_count)}",
                hint="pass more device_ids in DistributedConfig, or a device below their number",
            )
        return index


class Session:
    """A running worker. Made when a program is first called; ``close`` ends every process of it.

    Args:
        output: its files.
        chips: its chip callables.
    """

    def __init__(self, output: OutputDirectory, chips: Mapping[str, ChipCallable]) -> None:
        import simpler

        self._output = output
        self._manifest = manifest = output.manifest
        config = manifest.config
        self._config = call_config(config)
        self._orchestrate = load_host_orchestration(output)
        self.worker: Worker = simpler.Worker(
            level=3,
            platform=manifest.platform,
            runtime=config["runtime"],
            device_ids=list(config["device_ids"]),
            num_sub_workers=config["num_sub_workers"],
            restart=True,  # a call after one that took a process with it finds it replaced
        )
        try:
            self._chips = {name: self.worker.register(callable) for name, callable in chips.items()}
            self._subs: dict[tuple[str, str], CallableHandle] = {}
            # Loaded before the children are forked, torch is theirs too and need not be imported again in each.
            self._register_subs("numpy")
            if "torch" in sys.modules:
                self._register_subs("torch")
            self.worker.init()
        except BaseException:
            self.worker.close()
            raise

    def run(self, bound: Bound) -> None:
        """Run the host orchestrator once. Raises what a task raised, as ``simpler.TaskFailed``."""
        self._register_subs(bound.kind)
        kinds = {entry.name: self._kind(entry.arrays, bound.kind) for entry in self._manifest.sub_workers}
        subs = {name: self._subs[name, kind] for name, kind in kinds.items()}
        calls = Calls(self._chips, subs, len(self._manifest.config["device_ids"]))
        self.worker.run(_closure(self._orchestrate, bound.values, calls), config=self._config)

    def zeros(self, shape: tuple[int, ...], dtype: str, kind: str) -> Any:
        """An array in memory that the children see too, so that nothing is copied."""
        array = self.worker.zeros(shape, dtype)
        return as_torch(array, dtype) if kind == "torch" else array

    def close(self) -> None:
        """End all processes. In a forked child, which owns none of them, this does nothing."""
        self.worker.close()

    def _register_subs(self, callers_kind: str) -> None:
        for entry in self._manifest.sub_workers:
            kind = self._kind(entry.arrays, callers_kind)
            if (entry.name, kind) not in self._subs:
                function = load_sub_worker(self._output, entry, kind)
                self._subs[(entry.name, kind)] = self.worker.register(function)

    @staticmethod
    def _kind(arrays: str, callers_kind: str) -> str:
        return callers_kind if arrays == "caller" else arrays


def _closure(orchestrate: Callable[..., None], values: tuple[Any, ...], calls: Calls) -> Callable[..., None]:
    def host_orch(orch: Any, args: Any, config: Any) -> None:
        orchestrate(orch, values, config, calls)

    return host_orch
