// A chip whose kernels and orchestrations are functions of the test.
#pragma once

#include "aicore/ai_cores.h"
#include "aicpu/scheduler.h"
#include "aicpu/tensormap_and_ringbuffer.h"
#include "host/host_build_graph.h"

#include <gtest/gtest.h>

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

// A chip without ChipWorker, callables and loading.
struct Chip {
  // Which runtime the chips of a test have: set by Graphs.
  static inline bool host_builds = false;

  explicit Chip(uint32_t threads = 2, RingSizes sizes = {}, const char *platform = "a2a3sim")
      : info(find_platform(platform)), rings(sizes), memory(info), cores(info),
        scheduler(info, cores, threads, rings.task_slots) {
    if (host_builds)
      builder = std::make_unique<HostBuildGraph>(memory, scheduler, rings.heap_nbytes);
    else
      builder = std::make_unique<TensormapAndRingbuffer>(memory, scheduler, rings.heap_nbytes);
  }

  void run(const Orchestration &orchestration, uint32_t clusters = 0, const InterruptCheck &interrupted = {}) {
    run_with({}, orchestration, clusters, interrupted);
  }
  // With these arguments, which the orchestration knows from somewhere else.
  void run_with(const std::vector<ContinuousTensor> &tensors, const Orchestration &orchestration, uint32_t clusters = 0,
                const InterruptCheck &interrupted = {}) {
    static constexpr KernelInfo KERNELS[] = {{AIC, CoreType::AIC, "cube"}, {AIV, CoreType::AIV, "vector"}};
    static constexpr KernelFunction FUNCTIONS[] = {call_kernel, call_kernel};
    const auto scalar = reinterpret_cast<uint64_t>(&orchestration);
    clusters = clusters == 0 ? info.clusters : clusters;
    if (!keeps_graphs)
      kept.reset();
    cores.use(FUNCTIONS);
    scheduler.begin({"graph", KERNELS, clusters, rings.task_slots, interrupted ? &interrupted : nullptr});
    builder->run({"graph",
                  "orchestrate",
                  call_orchestration,
                  KERNELS,
                  {static_cast<int32_t>(tensors.size()), 1, tensors.data(), &scalar},
                  rings.heap_nbytes,
                  {clusters, 2 * clusters},
                  &kept});
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
  RingSizes rings;
  DeviceMemory memory;
  AiCores cores;
  Scheduler scheduler;
  bool keeps_graphs =
      false; // orchestrations of a test are all one callable, so mostly they must not be taken for equal
  std::unique_ptr<KeptGraph> kept;
  std::unique_ptr<GraphBuilder> builder;
};

// What both runtimes do alike.
class Graphs : public ::testing::TestWithParam<bool> {
protected:
  Graphs() { Chip::host_builds = GetParam(); }
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
