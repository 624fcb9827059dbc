// What runs on the AICPU beside the orchestration: checks its tasks, finds what they depend on, gives memory out.
#pragma once

#include "aicpu/heap_ring.h"
#include "aicpu/scheduler.h"
#include "aicpu/tensor_map.h"
#include "platform/device_memory.h"

#include <array>
#include <memory>

namespace simpler {

// Scopes of this depth and deeper ones share the last heap ring.
inline constexpr size_t HEAP_RINGS = 4;

class GraphBuilder : private Graph {
public:
  GraphBuilder(DeviceMemory &memory, Scheduler &scheduler, uint64_t heap_nbytes);

  // Runs an orchestration to its end, and waits for its tasks. `kernels` are sorted by func_id.
  void run(std::string_view callable, std::string_view symbol, OrchestrationFunction orchestrate,
           std::span<const KernelEntry> kernels, const TaskArgsView &args, std::span<const DeviceRange> ranges);

private:
  ContinuousTensor alloc_tensor(DataType dtype, const int64_t *shape, uint32_t ndims);
  void submit_task(const Task &task);
  void enter();
  void leave() noexcept;
  const KernelEntry &kernel_of(const Task &task) const;
  void check(const Task &task, const KernelEntry &kernel) const;
  void bind(const Task &task, int32_t i, TaskSlot &slot);
  HeapRing &ring_of_scope();
  HeapRing *ring_with(uint64_t address);
  template <class Call> static auto guarded(Graph &graph, Call &&call);
  void fail_orchestration(std::string message);
  void end_run() noexcept;

  static const Graph::Services SERVICES;
  DeviceMemory &memory_;
  Scheduler &scheduler_;
  const uint64_t heap_nbytes_;
  std::array<std::unique_ptr<HeapRing>, HEAP_RINGS> rings_; // made when first needed
  TensorMap tensor_map_;
  std::vector<std::vector<HeapRing::Block *>> scopes_; // open ones, with the blocks allocated in them
  std::vector<uint64_t> producers_;                    // of the task being submitted

  std::string_view callable_, symbol_;
  std::span<const KernelEntry> kernels_;
  std::span<const DeviceRange> ranges_;
};

} // namespace simpler
