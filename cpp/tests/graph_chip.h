// A chip whose kernels and orchestrations are functions of the test.
#pragma once

#include "aicpu/graph_builder.h"

#include <functional>

namespace simpler {

using Kernel = std::function<void(Core &, TaskArgsView)>;
using Orchestration = std::function<void(Graph &)>;

inline constexpr int32_t AIC = 0, AIV = 1; // func_ids; the first scalar is the address of the Kernel to call

inline void call_kernel(Core &core, TaskArgsView args) {
  (*reinterpret_cast<const Kernel *>(args.scalars[0]))(core, args);
}
inline void call_orchestration(Graph &graph, TaskArgsView args) {
  (*reinterpret_cast<const Orchestration *>(args.scalars[0]))(graph);
}

struct Chip {
  explicit Chip(uint32_t threads = 2, RingSizes rings = {}, const char *platform = "a2a3sim")
      : info(find_platform(platform)), memory(info), scheduler(info, threads, rings.task_slots),
        builder(memory, scheduler, rings.heap_nbytes) {}

  void run(const Orchestration &orchestration, uint32_t clusters = 0, const InterruptCheck &interrupted = {}) {
    const KernelEntry kernels[] = {{AIC, CoreType::AIC, call_kernel, "cube"},
                                   {AIV, CoreType::AIV, call_kernel, "vector"}};
    const auto scalar = reinterpret_cast<uint64_t>(&orchestration);
    scheduler.begin("graph", clusters == 0 ? info.clusters : clusters, interrupted);
    builder.run("graph", "orchestrate", call_orchestration, kernels, {0, 1, nullptr, &scalar}, {});
  }

  // `count` new cells of device memory.
  ContinuousTensor cells(size_t count) {
    ContinuousTensor t{};
    t.data = memory.allocate(count * 8);
    t.shapes[0] = static_cast<uint32_t>(count);
    t.ndims = 1;
    t.dtype = static_cast<uint8_t>(DataType::INT64);
    return t;
  }

  const PlatformInfo &info;
  DeviceMemory memory;
  Scheduler scheduler;
  GraphBuilder builder;
};

// `count` cells of a tensor from `first` on.
inline ContinuousTensor part(ContinuousTensor t, size_t first, size_t count) {
  t.data += first * 8;
  t.shapes[0] = static_cast<uint32_t>(count);
  return t;
}

// A task that calls this kernel, which must live until the run is over.
inline Task task(const Kernel &kernel, int32_t func_id = AIV) {
  return Task(func_id).scalar(reinterpret_cast<uint64_t>(&kernel));
}

} // namespace simpler
