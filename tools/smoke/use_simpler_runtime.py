"""Bytes to a chip and back; a kernel that is compiled against the installed headers, and one that fails."""

import numpy as np
import simpler_runtime as rt

assert {"a2a3sim", "a5sim", "cpu"} <= set(rt.platforms())
with rt.ChipWorker(platform="a2a3sim") as chip:
    address = chip.malloc(16)
    chip.copy_to(address, b"0123456789abcdef")
    back = bytearray(16)
    chip.copy_from(back, address)
    assert back == b"0123456789abcdef"

KERNEL = """
#include "simpler/tile.h"
using namespace simpler;
extern "C" void kernel(Core &core, TaskArgsView args) {
  tile::Tile<float, 8, 16> a(core);
  tile::load(core, a, args.tensors[0], ROW, 0, 8, 16, "a");
  tile::add(a, a, a);
  tile::store(core, args.tensors[1], a, 0, 0, "b");
}
"""
ORCHESTRATION = """
#include "simpler/orchestration.h"
using namespace simpler;
extern "C" void orchestrate(Graph &graph, TaskArgsView args) {
  graph.submit(Task(0).in(args.tensors[0]).out(args.tensors[1]));
}
"""


def chip_callable(row: int) -> rt.ChipCallable:
    """Twice the 8 rows from `row` on; it fails where they are not in the tensor."""
    units = [rt.CompileUnit("kernel.cpp", KERNEL.replace("ROW", str(row))), rt.CompileUnit("main.cpp", ORCHESTRATION)]
    kernel, orchestration = rt.KernelCompiler().compile(units)
    return rt.ChipCallable.build(
        name="double",
        orchestration=orchestration,
        signature=[rt.IN, rt.OUT],
        kernels=[rt.Kernel(0, "double", rt.CoreType.AIV, kernel)],
    )


a = np.arange(128, dtype=np.float32).reshape(8, 16)
b = np.zeros_like(a)
args = rt.TaskArgs()
for array, tag in ((a, rt.IN), (b, rt.OUT)):
    args.add_tensor(rt.ContinuousTensor.make(array.ctypes.data, array.shape, rt.DataType.FLOAT32), tag)
with rt.ChipWorker(platform="a2a3sim") as chip:
    chip.prepare_callable(callable_id=0, callable=chip_callable(0))
    chip.run_prepared(callable_id=0, args=args)
    np.testing.assert_array_equal(b, a + a)
    # What a kernel throws is caught in the module, across two builds of the C++ library.
    chip.prepare_callable(callable_id=1, callable=chip_callable(4))
    try:
        chip.run_prepared(callable_id=1, args=args)
    except rt.ChipError as error:
        said = str(error)
    else:
        said = "nothing"
    assert "double" in said, said
