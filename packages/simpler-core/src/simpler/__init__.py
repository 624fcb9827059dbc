"""Task graphs over processes: orchestrator, scheduler and workers of one host.

import simpler

with simpler.Worker(num_sub_workers=2) as worker:
    double = worker.register(lambda args: args.array(0).__imul__(2))
    values = worker.array([1.0, 2.0, 3.0])
    worker.run(lambda orch, args, config: orch.submit_sub(double, simpler.TaskArgs().inout(values)))
"""

from __future__ import annotations

from importlib.metadata import version

from simpler_runtime import (
    IN,
    INOUT,
    NO_DEP,
    OUT,
    OUTPUT_EXISTING,
    CallConfig,
    ChipCallable,
    ContinuousTensor,
    DataType,
    TensorArgType,
)

from simpler.arguments.bound import SubTaskArgs
from simpler.arguments.task_args import TaskArgs
from simpler.errors import (
    IllegalTransition,
    NoSuchWorker,
    RegistrationFailed,
    RemoteError,
    RunTimeout,
    SharedMemoryFull,
    SimplerError,
    TaskFailed,
    TensorError,
    UnknownCallable,
    WorkerDied,
    WorkerStateError,
    WrongKind,
)
from simpler.graph.orchestrator import Orchestrator
from simpler.tasks.callables import CallableHandle, CallableKind, TargetNamespace
from simpler.tasks.states import TaskState
from simpler.worker import Worker

__version__ = version("simpler-core")

__all__ = [
    "IN",
    "INOUT",
    "NO_DEP",
    "OUT",
    "OUTPUT_EXISTING",
    "CallConfig",
    "CallableHandle",
    "CallableKind",
    "ChipCallable",
    "ContinuousTensor",
    "DataType",
    "IllegalTransition",
    "NoSuchWorker",
    "Orchestrator",
    "RegistrationFailed",
    "RemoteError",
    "RunTimeout",
    "SharedMemoryFull",
    "SimplerError",
    "SubTaskArgs",
    "TargetNamespace",
    "TaskArgs",
    "TaskFailed",
    "TaskState",
    "TensorArgType",
    "TensorError",
    "UnknownCallable",
    "Worker",
    "WorkerDied",
    "WorkerStateError",
    "WrongKind",
    "__version__",
]
