// The executor: runs the tasks of one graph at a time on logical cores, and those on few OS threads.
//
// Who submits tasks is one of these threads: when it waits, for a free slot, for memory, for the end, it executes what
// is ready, so a graph without parallel work never leaves it. Other threads are started when there is work for them,
// sleep while there is none, and end with the executor. One mutex guards the graph: it is held for well under a
// microsecond a task, and never while a kernel runs.
#pragma once

#include "aicore/ai_core.h"
#include "aicpu/heap_ring.h"
#include "simpler/orchestration.h"
#include "simpler/platform.h"

#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

namespace simpler {

// A kernel that can be called.
struct KernelEntry {
  int32_t func_id;
  CoreType core_type;
  KernelFunction function;
  std::string_view name;
};

// One task, from its submission until its slot is used again.
struct TaskSlot {
  uint64_t id = 0; // counted from 0 in its run
  const KernelEntry *kernel = nullptr;
  uint32_t waits_for = 0;           // tasks that are not through yet
  std::atomic<bool> finished{true}; // read without the mutex: stale answers only add a look under it
  uint64_t last_dependent = ~0ULL;  // so that a task waits only once for this one
  TaskSlot *next_ready = nullptr;
  std::vector<TaskSlot *> dependents;
  std::vector<HeapRing::Block *> holds;
  int32_t tensor_count = 0, scalar_count = 0;
  ContinuousTensor tensors[MAX_TASK_TENSORS];
  uint64_t scalars[MAX_TASK_SCALARS];
};

// Thrown through an orchestration when the run has already failed.
struct RunAborted {};

class Scheduler {
public:
  Scheduler(const PlatformInfo &info, uint32_t threads, uint32_t task_slots);
  ~Scheduler();
  Scheduler(const Scheduler &) = delete;
  Scheduler &operator=(const Scheduler &) = delete;

  // The calls below come from one thread, in this order: begin, any number of acquire + submit, finish.
  void begin(std::string_view callable, uint32_t clusters, const InterruptCheck &interrupted);
  // The slot of the next task; executes others while none is free. Throws RunAborted, Interrupted.
  TaskSlot &acquire();
  // Hands the slot that acquire() gave over. `producers`: ids of tasks it has to wait for.
  void submit(TaskSlot &slot, const std::vector<uint64_t> &producers);
  // Executes tasks until `done()` is true. False: it isn't, and nothing runs that could change that.
  // Throws RunAborted, Interrupted.
  enum class Awaits { THE_END, ANY_TASK };
  template <class Done> bool help_until(Done &&done, Awaits awaits);
  // Records why the run ends; the first reason stays. Nothing new is dispatched from then on.
  void fail(std::exception_ptr reason);
  bool failed();
  // Waits for what executes, and throws the reason if there is one.
  void finish();

  // True while the task is not through.
  bool is_live(uint64_t id) const {
    const TaskSlot &slot = slots_[id % slots_.size()];
    return slot.id == id && !slot.finished.load(std::memory_order_acquire);
  }
  uint64_t submitted() const { return next_id_; }
  uint32_t task_slots() const { return static_cast<uint32_t>(slots_.size()); }
  size_t started_threads();

private:
  using Lock = std::unique_lock<std::mutex>;
  struct Dispatch {
    TaskSlot *slot = nullptr;
    AiCore *core = nullptr;
  };
  struct ReadyQueue {
    TaskSlot *first = nullptr, *last = nullptr;
    size_t size = 0;
  };

  Dispatch take();
  void execute(Dispatch dispatch, Lock &lock);
  void finish_task(Dispatch dispatch);
  void push_ready(TaskSlot &slot);
  size_t runnable() const;
  void wake_others();
  void start_thread();
  void work();
  bool wait_for_change(Lock &lock);
  void check_interrupt(Lock &lock);

  const PlatformInfo &info_;
  uint32_t max_threads_;        // with the caller's
  std::vector<TaskSlot> slots_; // a ring: task n is in slot n modulo size
  std::vector<std::unique_ptr<AiCore>> cores_;

  std::mutex mutex_; // guards everything below
  std::condition_variable work_, change_;
  ReadyQueue ready_[CORE_TYPE_COUNT];
  std::vector<AiCore *> idle_cores_[CORE_TYPE_COUNT];
  std::string callable_;
  const InterruptCheck *interrupted_ = nullptr;
  std::chrono::steady_clock::time_point next_interrupt_check_;
  uint64_t next_id_ = 0; // written by the submitting thread only
  uint64_t in_flight_ = 0;
  uint32_t executing_ = 0;
  std::exception_ptr failure_;
  bool caller_waits_ = false; // asleep on change_
  Awaits awaits_ = Awaits::THE_END;
  uint32_t idle_threads_ = 0, wakeups_ = 0;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

template <class Done> bool Scheduler::help_until(Done &&done, Awaits awaits) {
  Lock lock(mutex_);
  awaits_ = awaits;
  for (;;) {
    if (failure_ != nullptr)
      throw RunAborted{};
    if (done())
      return true;
    check_interrupt(lock);
    if (const Dispatch dispatch = take(); dispatch.slot != nullptr)
      execute(dispatch, lock);
    else if (!wait_for_change(lock))
      return done();
  }
}

} // namespace simpler
