"""What a program runs on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from pypto.errors import ConfigError


@dataclass(frozen=True, slots=True)
class DistributedConfig:
    """What a program runs on.

    Attributes:
        device_ids: the chips; ``device=`` of a call in a host orchestrator is an index into this list.
        num_sub_workers: processes for SubWorkers.
        runtime: how a chip builds its graph.
        block_dim: blocks of an SPMD launch that names no number; 0: one for each core of its type.
        aicpu_thread_num: AICPU threads of a chip.

    Raises ConfigError for a value of the wrong type or out of range.
    """

    device_ids: list[int] = field(default_factory=lambda: [0])
    num_sub_workers: int = 0
    runtime: str = "tensormap_and_ringbuffer"
    block_dim: int = 0
    aicpu_thread_num: int = 1

    def __post_init__(self) -> None:
        ids = self.device_ids
        if not isinstance(ids, (list, tuple)) or not ids:
            raise ConfigError(f"device_ids: expected a list of at least one device id, got {ids!r}")
        for device in ids:
            if not _is_int(device) or device < 0:
                raise ConfigError(f"device_ids: expected ids of 0 or more, got {device!r} in {ids!r}")
        if len(set(ids)) != len(ids):
            raise ConfigError(f"device_ids: every chip can be named once only, got {ids!r}")
        object.__setattr__(self, "device_ids", list(ids))
        for name, least in (("num_sub_workers", 0), ("block_dim", 0), ("aicpu_thread_num", 1)):
            value = getattr(self, name)
            if not _is_int(value) or value < least:
                raise ConfigError(f"{name}: expected an int of {least} or more, got {value!r}")
        if not isinstance(self.runtime, str):
            raise ConfigError(f"runtime: expected a name, got {self.runtime!r}")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def config_fields(config: DistributedConfig) -> dict[str, Any]:
    """The fields of a configuration as plain data."""
    return asdict(config)
