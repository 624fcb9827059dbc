// What every runtime does with an orchestration: checks its tasks, finds what they depend on, gives memory out. When
// the tasks execute is the business of the classes derived from it.
#pragma once

#include "graph/executor.h"
#include "graph/heap_ring.h"
#include "graph/tensor_map.h"
#include "platform/device_memory.h"

#include <array>
#include <memory>

namespace simpler {

// Scopes of this depth and deeper ones share the last heap ring.
inline constexpr size_t HEAP_RINGS = 4;

// What a builder keeps of a graph with its callable, for the next run.
struct KeptGraph {
  virtual ~KeptGraph() = default;
};

// One run of an orchestration.
struct GraphRequest {
  std::string_view callable, symbol;
  OrchestrationFunction orchestrate;
  std::span<const KernelInfo> kernels; // sorted by func_id
  TaskArgsView args;
  uint64_t heap_nbytes;                // of each heap ring
  uint32_t block_num[CORE_TYPE_COUNT]; // of a launch that names no number
  std::unique_ptr<KeptGraph> *kept;    // with the callable
};

class GraphBuilder : protected Graph {
public:
  // `heap_nbytes`: what each heap ring may have at most.
  GraphBuilder(DeviceMemory &memory, Executor &executor, uint64_t heap_nbytes);
  virtual ~GraphBuilder() = default;
  GraphBuilder(const GraphBuilder &) = delete;
  GraphBuilder &operator=(const GraphBuilder &) = delete;

  // Runs an orchestration and its tasks to their end, on an executor that has begun.
  virtual void run(const GraphRequest &request) = 0;
  // How many graphs were built by an orchestration so far, and run again without.
  uint64_t built() const { return built_; }
  uint64_t replayed() const { return replayed_; }

protected:
  // Memory that is one to all tasks: overlapping arguments, a block of a heap ring, a live allocation.
  struct Buffer {
    static constexpr uint32_t NO_ARGUMENT = ~0U;
    uint64_t begin;
    HeapRing::Block *block = nullptr;
    uint32_t argument = NO_ARGUMENT; // index of its beginning in argument_begins()
  };

  // A slot for the next task, with its id set.
  virtual TaskSlot &place(uint64_t number) = 0;
  virtual void hand_over(TaskSlot &slot, std::span<const TaskId> producers) = 0;
  virtual bool is_live(TaskId id) const = 0;
  // Lets tasks execute until `done()` is true. False: it isn't, and nothing runs that could change that.
  virtual bool wait(const std::function<bool()> &done) = 0;
  // Lets all tasks execute that were handed over.
  virtual void wait_all() = 0;
  // Tensor `operand` of a task (~0: its condition) is used where it lies.
  virtual void used(const TaskSlot &, uint32_t /*operand*/, const Buffer &) {}
  // The orchestration has looked at data, or changed it: another run of it may do other things.
  virtual void looked() {}

  // Runs the orchestration; why it failed, if it did, is told to the executor.
  void build(const GraphRequest &request);
  void begin(const GraphRequest &request);
  void end() noexcept;
  Executor &executor() { return executor_; }
  const Executor &executor() const { return executor_; }
  uint64_t submitted() const { return submitted_; }
  // Where the arguments are: unions of those that overlap, in the order in which the call names them.
  const std::vector<uint64_t> &argument_begins() const { return argument_begins_; }
  // Which of them an address inside an argument lies in.
  uint32_t argument_with(uint64_t address) const;

  uint64_t built_ = 0, replayed_ = 0;

private:
  struct OpenScope {
    uint64_t number; // of the run's scopes
    bool manual;
    const char *where;
    std::vector<HeapRing::Block *> blocks;
  };

  ContinuousTensor alloc_tensor(DataType dtype, const int64_t *shape, uint32_t ndims);
  void allocate(ContinuousTensor &tensor);
  TaskHandle submit_task(const Task &task);
  void enter(bool manual, const char *where);
  void leave();
  uint64_t find_element(const TensorView &t, const int64_t *index, uint32_t count, DataType type, bool writes);

  uint16_t kernel_of(const Task &task) const;
  std::string describe(const Task &task) const;
  void check(const Task &task) const;
  void fill(const Task &task, TaskSlot &slot);
  void create_outputs(const Task &task);
  void bind(const Task &task, uint32_t i, TaskSlot &slot);
  void bind_condition(const Task &task, TaskSlot &slot);
  void bind_dependencies(const Task &task);
  template <class Refuse> Buffer buffer_of(uint64_t begin, uint64_t nbytes, Refuse &&refuse);
  void track(const Buffer &buffer, const Footprint &part, bool writes, TaskId task, uint32_t operand);
  void find_arguments(const TaskArgsView &args);
  HeapRing &ring_of_scope();
  HeapRing *ring_with(uint64_t address);
  [[noreturn]] void ring_is_full(const HeapRing &ring, uint64_t nbytes) const;
  template <class Call> static auto guarded(Graph &graph, Call &&call);
  void fail_orchestration(std::string message);

  static const Graph::Services SERVICES;
  DeviceMemory &memory_;
  Executor &executor_;
  const uint64_t heap_nbytes_;
  std::array<std::unique_ptr<HeapRing>, HEAP_RINGS> rings_; // made when first needed
  TensorMap tensor_map_;

  // Of the run.
  GraphRequest request_{};
  uint64_t run_ = 0; // counted from 1
  uint64_t submitted_ = 0, scopes_entered_ = 0;
  bool untracked_ = false; // tasks of manual scopes were submitted
  std::vector<OpenScope> scopes_;
  struct Argument {
    uint64_t begin, end;
    uint32_t index; // in argument_begins_
  };
  std::vector<Argument> arguments_; // sorted by address
  std::vector<uint64_t> argument_begins_;
  std::vector<TaskId> producers_; // of the task being submitted
  ContinuousTensor created_[MAX_TASK_TENSORS];
};

} // namespace simpler
