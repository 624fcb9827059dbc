"""The chip in C++. Import these names from simpler_runtime."""

import enum
from collections.abc import Sequence

from typing_extensions import Buffer

class DataType(enum.Enum):
    """Element type of a tensor."""

    FLOAT32 = 0

    FLOAT16 = 1

    BFLOAT16 = 2

    INT8 = 3

    INT16 = 4

    INT32 = 5

    INT64 = 6

    UINT8 = 7

    UINT16 = 8

    UINT32 = 9

    UINT64 = 10

    BOOL = 11

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""

    @property
    def numpy(self) -> str | None:
        """Name of the numpy dtype; None for bfloat16, which numpy lacks."""

    @staticmethod
    def of(name: str) -> DataType:
        """
        The member for a name like "float32" or "bfloat16". Raises ValueError for an unknown one.
        """

class TensorArgType(enum.Enum):
    """How a task uses a tensor argument."""

    IN = 0
    """read"""

    OUT = 1
    """written, perhaps in part: the rest keeps its bytes"""

    INOUT = 2
    """read and written"""

    OUTPUT_EXISTING = 3
    """written, in a buffer that exists already"""

    NO_DEP = 4
    """used, but makes no dependency and waits for none"""

    INPUT = 0
    """read"""

    OUTPUT = 1
    """written, perhaps in part: the rest keeps its bytes"""

IN: TensorArgType = TensorArgType.IN

OUT: TensorArgType = TensorArgType.OUT

INOUT: TensorArgType = TensorArgType.INOUT

OUTPUT_EXISTING: TensorArgType = TensorArgType.OUTPUT_EXISTING

NO_DEP: TensorArgType = TensorArgType.NO_DEP

class ContinuousTensor:
    """
    A dense row-major tensor: where it is, its extents, its dtype. Owns no memory.
    """

    @staticmethod
    def make(data: int, shapes: Sequence[int], dtype: DataType, child_memory: bool = False) -> ContinuousTensor:
        """
        data: address of the first element. shapes: at most 5 extents. child_memory: data is an address in
        the chip's own memory. Raises ValueError for extents that can't be.
        """

    @property
    def data(self) -> int:
        """Address of the first element."""

    @property
    def shapes(self) -> tuple[int, ...]:
        """Extents."""

    @property
    def ndims(self) -> int: ...
    @property
    def dtype(self) -> DataType: ...
    @property
    def child_memory(self) -> bool:
        """data is an address in the chip's own memory."""

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __repr__(self) -> str: ...

    NBYTES: int = 40

class TaskArgs:
    """Tensors with tags, and 64-bit scalars: the arguments of one task."""

    def __init__(self) -> None: ...
    def add_tensor(self, tensor: ContinuousTensor, tag: TensorArgType = TensorArgType.IN) -> TaskArgs:
        """Appends a tensor; gives self."""

    def add_scalar(self, value: int | float | bool) -> TaskArgs:
        """
        Appends a scalar; gives self. A float is stored as the bits of a double. Raises ValueError for an int beyond
        64 bits.
        """

    @property
    def tensor_count(self) -> int: ...
    @property
    def scalar_count(self) -> int: ...
    def tensor(self, i: int) -> ContinuousTensor:
        """Tensor i. Raises IndexError."""

    def tag(self, i: int) -> TensorArgType:
        """
        Tag of tensor i; IN for arguments read from a blob, which carries none.
        """

    def scalar(self, i: int) -> int:
        """Scalar i as a signed 64-bit integer."""

    def scalar_float(self, i: int) -> float:
        """Scalar i, which was added as a float."""

    @property
    def blob_nbytes(self) -> int:
        """Bytes that write_blob writes."""

    def write_blob(self, buffer: Buffer, offset: int = 0) -> int:
        """
        Writes the arguments without their tags into a writable buffer; gives the bytes written. Raises ValueError
        when they don't fit.
        """

    @staticmethod
    def read_blob(buffer: Buffer | int, nbytes: int) -> TaskArgs:
        """
        Copies the arguments out of a blob in a buffer, or at an address. Raises ValueError for a damaged one.
        """

class CallConfig:
    """Execution options of one call, copied by value to every level."""

    def __init__(
        self,
        *,
        block_dim: int = 0,
        aicpu_thread_num: int = 3,
        enable_l2_swimlane: int = 0,
        enable_dump_tensor: int = 0,
        enable_pmu: int = 0,
        enable_dep_gen: int = 0,
        enable_scope_stats: int = 0,
        output_prefix: str = "",
        clusters: int = 0,
        heap_ring_nbytes: int = 0,
        task_ring_slots: int = 0,
    ) -> None:
        """
        block_dim: blocks of an SPMD launch that names no number; 0: one for each core of its type in use.
        clusters: how many the run may use, each one AIC and two AIV cores; 0: all of the chip. aicpu_thread_num: AICPU
        threads, of those that the platform has. heap_ring_nbytes, task_ring_slots: of this run, at most those that the
        chip was opened with; 0: those. The rest is off when 0. Raises ValueError for an output_prefix of more than 1023
        bytes.
        """

    @property
    def block_dim(self) -> int: ...
    @block_dim.setter
    def block_dim(self, arg: int, /) -> None: ...
    @property
    def clusters(self) -> int: ...
    @clusters.setter
    def clusters(self, arg: int, /) -> None: ...
    @property
    def heap_ring_nbytes(self) -> int: ...
    @heap_ring_nbytes.setter
    def heap_ring_nbytes(self, arg: int, /) -> None: ...
    @property
    def task_ring_slots(self) -> int: ...
    @task_ring_slots.setter
    def task_ring_slots(self, arg: int, /) -> None: ...
    @property
    def aicpu_thread_num(self) -> int: ...
    @aicpu_thread_num.setter
    def aicpu_thread_num(self, arg: int, /) -> None: ...
    @property
    def enable_l2_swimlane(self) -> int: ...
    @enable_l2_swimlane.setter
    def enable_l2_swimlane(self, arg: int, /) -> None: ...
    @property
    def enable_dump_tensor(self) -> int: ...
    @enable_dump_tensor.setter
    def enable_dump_tensor(self, arg: int, /) -> None: ...
    @property
    def enable_pmu(self) -> int: ...
    @enable_pmu.setter
    def enable_pmu(self, arg: int, /) -> None: ...
    @property
    def enable_dep_gen(self) -> int: ...
    @enable_dep_gen.setter
    def enable_dep_gen(self, arg: int, /) -> None: ...
    @property
    def enable_scope_stats(self) -> int: ...
    @enable_scope_stats.setter
    def enable_scope_stats(self, arg: int, /) -> None: ...
    @property
    def output_prefix(self) -> str: ...
    @output_prefix.setter
    def output_prefix(self, arg: str, /) -> None: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __repr__(self) -> str: ...

class TaskFrame:
    """A task frame that was read: whose digest, how, with which arguments."""

    @property
    def digest(self) -> bytes:
        """The 32 bytes that name the callable."""

    @property
    def config(self) -> CallConfig: ...
    @property
    def args_address(self) -> int:
        """Where the argument blob lies, in the buffer."""

    @property
    def args_nbytes(self) -> int: ...
    def args(self) -> TaskArgs:
        """A copy of the arguments. Raises ValueError for damaged ones."""

def write_task(buffer: Buffer, digest: bytes, config: CallConfig, args: TaskArgs) -> int:
    """
    Writes a task frame into a writable buffer; gives the bytes written. Raises ValueError when it does not fit,
    saying both sizes, and for a digest that has not 32 bytes.
    """

def read_task(buffer: Buffer) -> TaskFrame:
    """
    Reads a task frame; its arguments stay where they are. Raises ValueError for a damaged one.
    """

class CoreType(enum.Enum):
    """Kind of core: AIC multiplies matrices, AIV works on vectors."""

    AIC = 0

    AIV = 1

class Kernel:
    """A compiled kernel on its way into a ChipCallable."""

    def __init__(self, func_id: int, name: str, core_type: CoreType, object: bytes, symbol: str = "kernel") -> None:
        """
        func_id: what the orchestration calls it, unique in its callable. name: for messages. core_type: the cores it
        runs on. object: a shared object, as KernelCompiler gives it. symbol: its entry point.
        """

    @property
    def func_id(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def core_type(self) -> CoreType: ...
    @property
    def symbol(self) -> str: ...
    @property
    def object(self) -> bytes: ...
    def __repr__(self) -> str: ...

class ChipCallable:
    """
    What a chip can run: an orchestration and its kernels in one position-independent buffer.
    Immutable.
    """

    @staticmethod
    def build(
        *,
        name: str,
        orchestration: bytes,
        orchestration_symbol: str = "orchestrate",
        signature: Sequence[TensorArgType],
        scalar_count: int = 0,
        kernels: Sequence[Kernel],
    ) -> ChipCallable:
        """
        name: for messages. orchestration: a shared object with that symbol. signature: one tag for each tensor
        argument. scalar_count: how many scalar arguments. Raises CallableError for a func_id used twice, an empty
        object or name.
        """

    @staticmethod
    def from_bytes(buffer: Buffer) -> ChipCallable:
        """
        The callable whose to_bytes() these are. Raises CallableError for truncated, damaged or foreign bytes.
        """

    def to_bytes(self) -> bytes:
        """The whole buffer; equal for equal contents."""

    @property
    def name(self) -> str: ...
    @property
    def signature(self) -> list[TensorArgType]:
        """One tag for each tensor argument."""

    @property
    def scalar_count(self) -> int: ...
    @property
    def kernels(self) -> list[str]:
        """Names of the kernels."""

    @property
    def header_nbytes(self) -> int:
        """Bytes before the first object."""

    @property
    def nbytes(self) -> int:
        """Bytes of the buffer."""

    @property
    def content_hash(self) -> int:
        """64-bit hash of the buffer: no proof of equality."""

    def __repr__(self) -> str: ...

class Platform:
    """What a chip has."""

    @property
    def name(self) -> str: ...
    @property
    def clusters(self) -> int:
        """Of all dies; each is one AIC and two AIV cores."""

    @property
    def aic_cores(self) -> int: ...
    @property
    def aiv_cores(self) -> int: ...
    @property
    def aicpu_threads(self) -> int: ...
    @property
    def dies(self) -> int: ...
    @property
    def aic_memory_bytes(self) -> int:
        """Local memory of one AIC core; 0: unlimited."""

    @property
    def aiv_memory_bytes(self) -> int:
        """Local memory of one AIV core; 0: unlimited."""

    @property
    def core_memory_bytes(self) -> int:
        """Local memory that any core has at least; 0: unlimited."""

    @property
    def device_memory_bytes(self) -> int:
        """0: unlimited."""

    @property
    def separate_memory(self) -> bool:
        """False: kernels work on host memory in place."""

    def __repr__(self) -> str: ...

def runtimes() -> list[str]:
    """The graph builders that a ChipWorker can have, by name."""

def platforms() -> dict[str, Platform]:
    """The platforms that work on this machine, by name."""

class ChipWorker:
    """
    One chip: its prepared callables and its memory. Safe to call from several threads: runs are
    served one at a time, everything else also meanwhile. A worker belongs to the process that
    called init().
    """

    def __init__(
        self,
        *,
        platform: str = "cpu",
        runtime: str = "tensormap_and_ringbuffer",
        device_id: int = 0,
        threads: int = 0,
        heap_ring_nbytes: int = 0,
        task_ring_slots: int = 0,
    ) -> None:
        """
        platform: a name in platforms(). runtime: "tensormap_and_ringbuffer", where tasks execute while their
        orchestration still works, or "host_build_graph", where the graph is built first and replayed while its
        arguments keep their shapes. threads: OS threads its cores share; 0 means as many as CPUs this process may
        use. heap_ring_nbytes: size of each of the four heap rings an orchestration allocates from; 0 means 1 GiB.
        task_ring_slots: tasks in flight; 0 means 1024. Raises PlatformError, naming what works here.
        """

    def init(self) -> None:
        """
        Opens the chip. Does nothing when it is open. Raises DeviceMemoryError when address space is short.
        """

    def finalize(self) -> None:
        """
        Unloads every callable and gives memory and threads back. Does nothing when the chip is not open.
        """

    def __enter__(self) -> ChipWorker: ...
    def __exit__(self, *args: object) -> None: ...
    def prepare_callable(self, *, callable_id: int, callable: ChipCallable) -> None:
        """
        Loads a callable into a slot, 0 to MAX_CALLABLES - 1. Raises CallableError: no such slot, a slot in use, an
        object that can't be loaded, a missing symbol.
        """

    def unregister_callable(self, *, callable_id: int) -> None:
        """Empties a slot. Raises CallableError when nothing is in it."""

    def run_prepared(self, *, callable_id: int, args: TaskArgs, config: CallConfig = ...) -> None:
        """
        Runs the callable in that slot to its end. Host tensors are brought to the chip and, by the callable's
        signature, back; child_memory tensors are used in place. When it fails, host tensors keep what they had, on
        platforms with separate memory. The GIL is released; Ctrl-C ends it between two kernels.
        Raises CallableError (slot, number of arguments), CallConfigError, KernelError, RingFull,
        DeviceMemoryError.
        """

    def run_prepared_from_blob(self, *, callable_id: int, ptr: int, capacity: int, config: CallConfig = ...) -> None:
        """
        As run_prepared, with arguments read in place from the blob at address ptr, at most capacity bytes of it.
        Raises CallableError for a damaged blob, too.
        """

    def malloc(self, nbytes: int) -> int:
        """
        Address of a new block of device memory. Raises DeviceMemoryError when there is no room.
        """

    def free(self, ptr: int) -> None:
        """
        Gives a block back. Raises DeviceMemoryError unless malloc gave that address.
        """

    def copy_to(self, dst_dev: int, src_buffer: Buffer) -> None:
        """
        Copies all of a buffer to device memory. Raises DeviceMemoryError unless it fits one live block.
        """

    def copy_from(self, dst_buffer: Buffer, src_dev: int) -> None:
        """
        Fills a writable buffer from device memory. Raises DeviceMemoryError unless that range is in one live block.
        """

    @property
    def aicpu_dlopen_count(self) -> int:
        """
        Orchestrations loaded on an AICPU so far: with tensormap_and_ringbuffer, one for each distinct content, while
        it stays loaded.
        """

    @property
    def host_dlopen_count(self) -> int:
        """
        Orchestrations loaded on the host so far: with host_build_graph, one for each distinct content, while it stays
        loaded.
        """

    @property
    def graph_build_count(self) -> int:
        """Runs so far that ran their orchestration."""

    @property
    def graph_replay_count(self) -> int:
        """Runs so far that replayed the graph of an earlier one, with host_build_graph."""

    @property
    def runtime(self) -> str: ...
    @property
    def platform(self) -> str: ...
    @property
    def device_id(self) -> int: ...

    MAX_CALLABLES: int = 64
