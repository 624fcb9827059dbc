// Executor: whatever runs the tasks of a graph. Those who build graphs know nothing else of it: neither which cores
// there are nor what a kernel is to them.
#pragma once

#include "graph/task_slot.h"
#include "simpler/platform.h"

#include <exception>
#include <functional>
#include <span>
#include <string_view>

namespace simpler {

// What is known of a kernel without calling it.
struct KernelInfo {
  int32_t func_id;
  CoreType core_type;
  std::string_view name;
};

// Thrown through an orchestration when the run has already failed.
struct RunAborted {};

// One run of an executor.
struct ExecutorRun {
  std::string_view callable;
  std::span<const KernelInfo> kernels; // TaskSlot::kernel is an index in it
  uint32_t clusters;                   // that it may use
  uint32_t task_slots;                 // that it may use
  const InterruptCheck *interrupted;   // null: nobody asks
};

// The calls come from one thread, in this order: begin, any number of the others, finish.
class Executor {
public:
  virtual ~Executor() = default;

  virtual void begin(const ExecutorRun &run) = 0;
  // A free slot for the task with this number, with its id set; executes others while none is free. Throws RingFull
  // when nothing can free one, RunAborted, Interrupted.
  virtual TaskSlot &acquire(uint64_t number) = 0;
  // Hands over the slot that acquire() gave. It waits for `producers`, each named once; those that are through don't
  // matter.
  virtual void submit(TaskSlot &slot, std::span<const TaskId> producers) = 0;
  // Hands `count` recorded tasks over, whose edges are complete, by those that wait for none.
  virtual void launch(std::span<TaskSlot *const> first, uint64_t count) = 0;
  // True until the task of that id, one of acquire()'s, is through.
  virtual bool is_live(TaskId id) const = 0;
  // Executes tasks until `done()` is true; it may be asked again afterwards. False: it isn't, and nothing runs that
  // could change that. Throws RunAborted, Interrupted.
  virtual bool wait(const std::function<bool()> &done) = 0;
  // Executes all that was handed over to its end. Throws RunAborted, Interrupted.
  virtual void wait_all() = 0;
  // Records why the run ends; the first reason stays. Nothing new is dispatched from then on.
  virtual void fail(std::exception_ptr reason) = 0;
  virtual bool failed() const = 0;
  // Waits for what executes, and throws the reason if there is one. No task of the run is left afterwards.
  virtual void finish() = 0;
};

} // namespace simpler
