#include "bindings.h"

#include "simpler/chip_worker.h"

#include <algorithm>

namespace simpler::python {
namespace {

using namespace nb::literals;

// Another thread may need the GIL while a chip works: it is never held across a call into ChipWorker.
template <class Call> auto without_gil(Call &&call) {
  const nb::gil_scoped_release released;
  return call();
}

// Runs signal handlers; true when one of them raised (Ctrl-C).
bool signal_handler_raised() {
  const nb::gil_scoped_acquire acquired;
  return PyErr_CheckSignals() != 0;
}

template <class Run> void run_interruptible(Run &&run) {
  bool interrupted = false;
  without_gil([&] {
    try {
      run(InterruptCheck(signal_handler_raised));
    } catch (const Interrupted &) {
      interrupted = true;
    }
  });
  if (interrupted)
    throw nb::python_error(); // what the handler raised
}

void bind_platform(nb::module_ &m) {
  nb::class_<PlatformInfo>(m, "Platform", "What a chip has.")
      .def_ro("name", &PlatformInfo::name)
      .def_ro("clusters", &PlatformInfo::clusters, "Of all dies; each is one AIC and two AIV cores.")
      .def_prop_ro("aic_cores", [](const PlatformInfo &self) { return self.cores(CoreType::AIC); })
      .def_prop_ro("aiv_cores", [](const PlatformInfo &self) { return self.cores(CoreType::AIV); })
      .def_ro("aicpu_threads", &PlatformInfo::aicpu_threads)
      .def_ro("dies", &PlatformInfo::dies)
      .def_prop_ro(
          "aic_memory_bytes", [](const PlatformInfo &self) { return self.core_memory_nbytes[0]; },
          "Local memory of one AIC core; 0: unlimited.")
      .def_prop_ro(
          "aiv_memory_bytes", [](const PlatformInfo &self) { return self.core_memory_nbytes[1]; },
          "Local memory of one AIV core; 0: unlimited.")
      .def_prop_ro(
          "core_memory_bytes",
          [](const PlatformInfo &self) { return std::min(self.core_memory_nbytes[0], self.core_memory_nbytes[1]); },
          "Local memory that any core has at least; 0: unlimited.")
      .def_ro("device_memory_bytes", &PlatformInfo::device_memory_nbytes, "0: unlimited.")
      .def_ro("separate_memory", &PlatformInfo::separate_memory, "False: kernels work on host memory in place.")
      .def("__repr__", [](const PlatformInfo &self) {
        return "Platform('" + self.name + "', " + std::to_string(self.cores(CoreType::AIC)) + " AIC + " +
               std::to_string(self.cores(CoreType::AIV)) + " AIV cores)";
      });
  m.def("runtimes", [] { return runtimes(); }, "The graph builders that a ChipWorker can have, by name.");
  m.def(
      "platforms",
      [] {
        nb::dict all;
        for (const PlatformInfo &info : platforms())
          all[info.name.c_str()] = nb::cast(info);
        return all;
      },
      nb::sig("def platforms() -> dict[str, Platform]"), "The platforms that work on this machine, by name.");
}

} // namespace

void bind_worker(nb::module_ &m) {
  bind_platform(m);

  nb::class_<ChipWorker> worker(
      m, "ChipWorker",
      "One chip: its prepared callables and its memory. Safe to call from several threads: runs are\n"
      "served one at a time, everything else also meanwhile. A worker belongs to the process that\n"
      "called init().");
  worker
      .def(
          "__init__",
          [](ChipWorker *self, std::string platform, std::string runtime, int32_t device_id, uint32_t threads,
             uint64_t heap_ring_nbytes, uint32_t task_ring_slots) {
            ChipWorkerOptions options{std::move(platform), std::move(runtime), device_id, threads, {}};
            if (heap_ring_nbytes != 0)
              options.rings.heap_nbytes = heap_ring_nbytes;
            if (task_ring_slots != 0)
              options.rings.task_slots = task_ring_slots;
            new (self) ChipWorker(std::move(options));
          },
          nb::kw_only(), "platform"_a = "cpu", "runtime"_a = "tensormap_and_ringbuffer", "device_id"_a = 0,
          "threads"_a = 0, "heap_ring_nbytes"_a = 0, "task_ring_slots"_a = 0,
          "platform: a name in platforms(). runtime: \"tensormap_and_ringbuffer\", where tasks execute while their\n"
          "orchestration still works, or \"host_build_graph\", where the graph is built first and replayed while its\n"
          "arguments keep their shapes. threads: OS threads its cores share; 0 means as many as CPUs this process "
          "may\n"
          "use. heap_ring_nbytes: size of each of the four heap rings an orchestration allocates from; 0 means 1 GiB.\n"
          "task_ring_slots: tasks in flight; 0 means 1024. Raises PlatformError, naming what works here.")
      .def(
          "init", [](ChipWorker &self) { without_gil([&] { self.init(); }); },
          "Opens the chip. Does nothing when it is open. Raises DeviceMemoryError when address space is short.")
      .def(
          "finalize", [](ChipWorker &self) { without_gil([&] { self.finalize(); }); },
          "Unloads every callable and gives memory and threads back. Does nothing when the chip is not open.")
      .def(
          "__enter__",
          [](ChipWorker &self) -> ChipWorker & {
            without_gil([&] { self.init(); });
            return self;
          },
          nb::rv_policy::none)
      .def(
          "__exit__", [](ChipWorker &self, const nb::args &) { without_gil([&] { self.finalize(); }); },
          nb::sig("def __exit__(self, *args: object) -> None"))
      .def(
          "prepare_callable",
          [](ChipWorker &self, int32_t callable_id, const ChipCallable &callable) {
            without_gil([&] { self.prepare_callable(callable_id, callable); });
          },
          nb::kw_only(), "callable_id"_a, "callable"_a,
          "Loads a callable into a slot, 0 to MAX_CALLABLES - 1. Raises CallableError: no such slot, a slot in use, "
          "an\n"
          "object that can't be loaded, a missing symbol.")
      .def(
          "unregister_callable",
          [](ChipWorker &self, int32_t callable_id) { without_gil([&] { self.unregister_callable(callable_id); }); },
          nb::kw_only(), "callable_id"_a, "Empties a slot. Raises CallableError when nothing is in it.")
      .def(
          "run_prepared",
          [](ChipWorker &self, int32_t callable_id, const TaskArgs &args, const CallConfig &config) {
            const TaskArgs mine = args; // another Python thread may add to the caller's meanwhile
            const CallConfig my_config = config;
            run_interruptible([&](const InterruptCheck &interrupted) {
              self.run_prepared(callable_id, mine.view(), my_config, interrupted);
            });
          },
          nb::kw_only(), "callable_id"_a, "args"_a, "config"_a = CallConfig(),
          nb::sig("def run_prepared(self, *, callable_id: int, args: TaskArgs, config: CallConfig = ...) -> None"),
          "Runs the callable in that slot to its end. Host tensors are brought to the chip and, by the callable's\n"
          "signature, back; child_memory tensors are used in place. When it fails, host tensors keep what they had, "
          "on\n"
          "platforms with separate memory. The GIL is released; Ctrl-C ends it between two kernels.\n"
          "Raises CallableError (slot, number of arguments), CallConfigError, KernelError, RingFull,\n"
          "DeviceMemoryError.")
      .def(
          "run_prepared_from_blob",
          [](ChipWorker &self, int32_t callable_id, uintptr_t ptr, size_t capacity, const CallConfig &config) {
            const CallConfig my_config = config;
            run_interruptible([&](const InterruptCheck &interrupted) {
              self.run_prepared_from_blob(callable_id, reinterpret_cast<const void *>(ptr), capacity, my_config,
                                          interrupted);
            });
          },
          nb::kw_only(), "callable_id"_a, "ptr"_a, "capacity"_a, "config"_a = CallConfig(),
          nb::sig("def run_prepared_from_blob(self, *, callable_id: int, ptr: int, capacity: int, config: CallConfig = "
                  "...) -> None"),
          "As run_prepared, with arguments read in place from the blob at address ptr, at most capacity bytes of it.\n"
          "Raises CallableError for a damaged blob, too.")
      .def(
          "malloc", [](ChipWorker &self, uint64_t nbytes) { return without_gil([&] { return self.malloc(nbytes); }); },
          "nbytes"_a, "Address of a new block of device memory. Raises DeviceMemoryError when there is no room.")
      .def(
          "free", [](ChipWorker &self, uint64_t ptr) { without_gil([&] { self.free(ptr); }); }, "ptr"_a,
          "Gives a block back. Raises DeviceMemoryError unless malloc gave that address.")
      .def(
          "copy_to",
          [](ChipWorker &self, uint64_t dst_dev, nb::handle src_buffer) {
            const Buffer from(src_buffer, false);
            without_gil([&] { self.copy_to(dst_dev, from.data(), from.nbytes()); });
          },
          "dst_dev"_a, "src_buffer"_a,
          nb::sig("def copy_to(self, dst_dev: int, src_buffer: typing_extensions.Buffer) -> None"),
          "Copies all of a buffer to device memory. Raises DeviceMemoryError unless it fits one live block.")
      .def(
          "copy_from",
          [](ChipWorker &self, nb::handle dst_buffer, uint64_t src_dev) {
            const Buffer to(dst_buffer, true);
            without_gil([&] { self.copy_from(to.data(), src_dev, to.nbytes()); });
          },
          "dst_buffer"_a, "src_dev"_a,
          nb::sig("def copy_from(self, dst_buffer: typing_extensions.Buffer, src_dev: int) -> None"),
          "Fills a writable buffer from device memory. Raises DeviceMemoryError unless that range is in one live "
          "block.")
      .def_prop_ro(
          "aicpu_dlopen_count", [](ChipWorker &self) { return without_gil([&] { return self.aicpu_dlopen_count(); }); },
          "Orchestrations loaded on an AICPU so far: with tensormap_and_ringbuffer, one for each distinct content, "
          "while\n"
          "it stays loaded.")
      .def_prop_ro(
          "host_dlopen_count", [](ChipWorker &self) { return without_gil([&] { return self.host_dlopen_count(); }); },
          "Orchestrations loaded on the host so far: with host_build_graph, one for each distinct content, while it "
          "stays\n"
          "loaded.")
      .def_prop_ro(
          "graph_build_count", [](ChipWorker &self) { return without_gil([&] { return self.graph_counts().built; }); },
          "Runs so far that ran their orchestration.")
      .def_prop_ro(
          "graph_replay_count",
          [](ChipWorker &self) { return without_gil([&] { return self.graph_counts().replayed; }); },
          "Runs so far that replayed the graph of an earlier one, with host_build_graph.")
      .def_prop_ro("runtime", [](const ChipWorker &self) { return self.options().runtime; })
      .def_prop_ro("platform", [](const ChipWorker &self) { return self.options().platform; })
      .def_prop_ro("device_id", [](const ChipWorker &self) { return self.options().device_id; });
  worker.attr("MAX_CALLABLES") = MAX_CALLABLES;
}

} // namespace simpler::python
