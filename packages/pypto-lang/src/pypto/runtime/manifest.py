"""``program.json``: what an output directory says about the program in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pypto.errors import OutputDirectoryError

FORMAT = 1  # counts the incompatible changes of the files in an output directory


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the host orchestrator or of a SubWorker.

    Attributes:
        name: as the user wrote it.
        dtype: numpy's name of the element type (``"float32"``, and ``"bfloat16"``).
        shape: of a tensor: ints and names of dynamic dimensions; None for a scalar.
        direction: ``"In"``, ``"Out"`` or ``"InOut"``.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...] | None
    direction: str

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.name}: {self.dtype}"
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class SubWorkerEntry:
    """A SubWorker: what it takes, and whose arrays: ``"torch"``, ``"numpy"``, or the ``"caller"``'s kind."""

    name: str
    parameters: tuple[Parameter, ...]
    arrays: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A compiled program, apart from its code.

    Attributes:
        name: of the program.
        where: ``file.py:line`` of its host orchestrator.
        platform: it was compiled for.
        config: fields of its DistributedConfig.
        parameters: of its host orchestrator.
        results: names of the parameters a call without outputs returns, in order.
        chips: names of its chip orchestrations.
        sub_workers: its SubWorkers.
        direct: where its host orchestrator does nothing but pass its arguments to one chip orchestration: the name of
            that, and the sha256 of the orchestrator's module.
    """

    name: str
    where: str
    platform: str
    config: Mapping[str, Any]
    parameters: tuple[Parameter, ...]
    results: tuple[str, ...]
    chips: tuple[str, ...]
    sub_workers: tuple[SubWorkerEntry, ...]
    direct: tuple[str, str] | None = None

    def to_json(self) -> str:
        """The text of ``program.json``."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n"

    @staticmethod
    def parse(text: bytes, path: Path) -> Manifest:
        """Read ``program.json``. Raises OutputDirectoryError, which names ``path``, for what is none."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise OutputDirectoryError(f"{path} can't be read: {error}", hint="compile the program again") from error
        found = data.pop("format", None) if isinstance(data, dict) else None
        if found != FORMAT:
            message = f"{path} has format {found!r}; this version of pypto reads format {FORMAT}"
            raise OutputDirectoryError(message, hint="compile the program again")
        try:
            return Manifest(
                **{
                    **data,
                    "parameters": _parameters(data["parameters"]),
                    "results": tuple(data["results"]),
                    "chips": tuple(data["chips"]),
                    "sub_workers": tuple(
                        SubWorkerEntry(sub["name"], _parameters(sub["parameters"]), sub["arrays"])
                        for sub in data["sub_workers"]
                    ),
                    "direct": tuple(data["direct"]) if data.get("direct") else None,
                }
            )
        except (KeyError, TypeError) as error:
            raise OutputDirectoryError(f"{path} is damaged: {error!r}", hint="compile the program again") from error


def describe_chips(count: int) -> str:
    """How many chips there are and what ``device=`` they go by."""
    return "1 chip (device 0)" if count == 1 else f"{count} chips (devices 0 to {count - 1})"


def _parameters(data: list[dict[str, Any]]) -> tuple[Parameter, ...]:
    return tuple(Parameter(**{**p, "shape": None if p["shape"] is None else tuple(p["shape"])}) for p in data)
