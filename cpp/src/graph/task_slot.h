// One task of a graph: what it runs, with which arguments, who waits for it.
#pragma once

#include "simpler/orchestration.h"

#include <atomic>
#include <memory>
#include <vector>

namespace simpler {

// Names a task of one run: how many were submitted before it, and in which slot it is.
class TaskId {
public:
  static constexpr uint32_t SLOT_BITS = 24;

  TaskId() = default;
  TaskId(uint64_t number, uint32_t slot) : bits_(number << SLOT_BITS | slot) {}
  static TaskId of_bits(uint64_t bits) {
    TaskId id;
    id.bits_ = bits;
    return id;
  }
  uint64_t number() const { return bits_ >> SLOT_BITS; }
  uint32_t slot() const { return static_cast<uint32_t>(bits_ & ((1U << SLOT_BITS) - 1)); }
  uint64_t bits() const { return bits_; }
  bool exists() const { return bits_ != ~0ULL; }
  friend auto operator<=>(const TaskId &, const TaskId &) = default;

private:
  uint64_t bits_ = ~0ULL;
};

struct TaskSlot;

// One task waits for another: a link in the list of the other's dependents, stored with the one that waits.
struct Edge {
  Edge *next;
  TaskSlot *dependent;
};

// What few tasks have, and what does not fit in their slots.
struct Spill {
  std::vector<Edge> edges;
  std::vector<uint64_t> args;
  uint64_t condition = 0; // address of what must not be 0 for the kernel to run
};

struct alignas(64) TaskSlot {
  // What `dependents` is when the task is through.
  static Edge *through() { return reinterpret_cast<Edge *>(1); }
  static constexpr uint32_t INLINE_EDGES = 4;
  static constexpr uint32_t INLINE_ARGS_NBYTES = 128; // three dense tensors and a scalar

  std::atomic<Edge *> dependents{through()};
  std::atomic<uint32_t> waits_for{0}; // tasks that are not through yet; while it runs, blocks that are not
  uint32_t fan_in = 0;                // of a recorded task: what waits_for begins with
  TaskId id;
  uint16_t kernel = 0; // index in the table of the callable
  uint8_t tensor_count = 0, scalar_count = 0;
  CoreType core_type = CoreType::AIV;
  bool recorded = false;        // runs again: its dependents are kept
  bool has_kernel = true;       // false: it only joins others
  bool strided = false;         // its arguments end with a view of each tensor
  uint32_t block_num = 1;       // how many times the kernel runs
  uint32_t next_block = 0;      // guarded by the queue it is in
  uint8_t condition_nbytes = 0; // 0: it runs in any case; otherwise spill->condition says where to look
  std::byte *args = nullptr;    // tensors, scalars, views
  std::unique_ptr<Spill> spill; // kept for the next task
  Edge edges[INLINE_EDGES];
  alignas(8) std::byte inline_args[INLINE_ARGS_NBYTES];

  TaskSlot() = default;
  TaskSlot(const TaskSlot &) = delete;
  TaskSlot &operator=(const TaskSlot &) = delete;

  bool is_through() const { return dependents.load(std::memory_order_acquire) == through(); }

  ContinuousTensor *tensors() const { return reinterpret_cast<ContinuousTensor *>(args); }
  uint64_t *scalars() const { return reinterpret_cast<uint64_t *>(args + sizeof(ContinuousTensor) * tensor_count); }
  TensorView *views() const { return reinterpret_cast<TensorView *>(scalars() + scalar_count); }
  TaskArgsView arguments() const {
    return {tensor_count, scalar_count, tensors(), scalars(), strided ? views() : nullptr};
  }
  Spill &spilled() {
    if (spill == nullptr)
      spill = std::make_unique<Spill>();
    return *spill;
  }
  // Makes room for the arguments whose counts are set.
  void place_args();
  // Links for `count` tasks to wait for.
  Edge *place_edges(size_t count);
};

static_assert(sizeof(TaskSlot) == 256);

inline void TaskSlot::place_args() {
  const size_t nbytes = sizeof(ContinuousTensor) * tensor_count + 8 * size_t{scalar_count} +
                        (strided ? sizeof(TensorView) * tensor_count : 0);
  if (nbytes <= INLINE_ARGS_NBYTES) {
    args = inline_args;
    return;
  }
  auto &words = spilled().args;
  if (words.size() * 8 < nbytes)
    words.resize(nbytes / 8);
  args = reinterpret_cast<std::byte *>(words.data());
}

inline Edge *TaskSlot::place_edges(size_t count) {
  if (count <= INLINE_EDGES)
    return edges;
  auto &links = spilled().edges;
  if (links.size() < count)
    links.resize(count);
  return links.data();
}

} // namespace simpler
