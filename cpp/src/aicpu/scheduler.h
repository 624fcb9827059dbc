// The executor of a chip: many logical cores on few OS threads.
//
// Each thread has a lane: queues of tasks that are ready, a count of those it finished. Who finishes a task goes on
// with the first one that it made ready, and puts the others into its own lane; who has nothing takes from the lanes of
// others. Nothing is shared by all but what is read: a task costs a few cache lines that move, and no lock that
// everybody wants.
//
// The thread that builds the graph is one of them. While it builds, a task that is ready alone is left to it, because
// handing it over costs more than many a kernel: the threads that sleep are woken when there are two. But one of them
// watches: a task that nobody took for two looks in a row is taken, so a lone task starts while the orchestration
// works.
#pragma once

#include "aicpu/core_array.h"
#include "aicpu/ready_queue.h"
#include "graph/executor.h"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace simpler {

class Scheduler final : public Executor {
public:
  // `threads`: with the one that calls. `task_slots`: at most.
  Scheduler(const PlatformInfo &info, CoreArray &cores, uint32_t threads, uint32_t task_slots);
  ~Scheduler() override;

  // Starts the thread that watches, so that no run has to.
  void prewarm();
  uint32_t task_slots() const { return task_slots_; }
  size_t started_threads();

  void begin(const ExecutorRun &run) override;
  TaskSlot &acquire(uint64_t number) override;
  void submit(TaskSlot &slot, std::span<const TaskId> producers) override;
  void launch(std::span<TaskSlot *const> first, uint64_t count) override;
  bool is_live(TaskId id) const override {
    const TaskSlot &slot = slots_[id.slot()];
    return slot.id == id && !slot.is_through();
  }
  bool wait(const std::function<bool()> &done) override;
  void wait_all() override;
  void fail(std::exception_ptr reason) override;
  bool failed() const override { return failed_.load(std::memory_order_acquire); }
  void finish() override;

private:
  // How long a thread without work looks for some before it sleeps: about as long as waking it would take.
  static constexpr int SPINS = 500;
  // With fewer tasks that are ready, the thread that builds is left alone: taking them costs it more than running them.
  static constexpr size_t FEW = 32;

  using Lock = std::unique_lock<std::mutex>;
  struct alignas(64) Lane {
    uint32_t index = 0;
    uint64_t seen_taken = 0;           // of the builder's queues, when it last looked
    std::atomic<uint64_t> finished{0}; // tasks of this run
    std::atomic<bool> busy{false};     // it may have a task
    ReadyQueue ready[CORE_TYPE_COUNT];
    size_t size() const { return ready[0].size() + ready[1].size(); }
  };
  struct Work {
    TaskSlot *slot = nullptr;
    uint32_t block = 0, core = 0;
    explicit operator bool() const { return slot != nullptr; }
  };
  // What the calling thread sleeps for.
  enum class Awaits : uint8_t { NOTHING, ANY_TASK, THE_END };

  Lane &caller() { return lanes_[0]; }
  Work take(Lane &lane, bool few);
  Work take_from(Lane &lane, Lane &victim);
  bool claim(const Lane &lane, CoreType type, uint32_t &core);
  void release(CoreType type, uint32_t core);
  Work continue_with(Lane &lane, TaskSlot *slot);
  TaskSlot *execute(Lane &lane, Work work);
  TaskSlot *finish_task(Lane &lane, TaskSlot &slot);
  void make_ready(Lane &lane, TaskSlot &slot);
  TaskSlot &free_slot();

  template <class Done, class Enough> bool help(const Done &done, const Enough &enough, Awaits awaits);
  template <class Done> void sleep_as_caller(const Done &done, Awaits awaits);
  void wake();
  void wake_caller();
  void watch();
  void start_thread(const Lock &lock);
  void work(Lane &lane);
  bool sleep(Lane &lane, bool &few);
  bool anything_to_take(const Lane &lane) const;
  bool few_tasks_wait(Lane &lane);
  uint64_t finished() const;
  bool all_finished() const;
  bool anyone_busy() const;
  void check_interrupt();

  const PlatformInfo &info_;
  CoreArray &cores_;
  std::atomic<uint32_t> max_threads_; // with the caller's
  const uint32_t task_slots_;
  std::unique_ptr<TaskSlot[]> slots_;
  std::unique_ptr<Lane[]> lanes_; // one for each thread that may be; the first is the caller's

  // Of the run; written by the caller while nobody has a task.
  ExecutorRun run_{};
  uint64_t submitted_ = 0, known_finished_ = 0;
  uint32_t cursor_ = 0; // where to look for a free slot
  std::chrono::steady_clock::time_point next_interrupt_check_;
  uint32_t used_[CORE_TYPE_COUNT] = {}; // cores that the run may use
  bool owned_[CORE_TYPE_COUNT] = {};    // there are as many as threads: each has its own
  SpinLock idle_lock_;
  std::vector<uint32_t> idle_[CORE_TYPE_COUNT];            // where there are fewer
  std::atomic<uint32_t> idle_count_[CORE_TYPE_COUNT] = {}; // 1 where each thread has its own

  std::atomic<bool> failed_{false};
  std::atomic<bool> building_{false}; // the caller is in the orchestration
  std::atomic<Awaits> caller_awaits_{Awaits::NOTHING};
  std::atomic<uint32_t> threads_started_{0};
  std::atomic<uint32_t> sleepers_{0}; // threads; resting_ of them until they are woken, the others look now and then
  std::atomic<uint32_t> resting_{0};
  std::atomic<bool> waking_{false};  // somebody was woken who has not come yet
  std::atomic<bool> watched_{false}; // somebody looks now and then

  std::mutex mutex_; // guards what follows
  std::condition_variable work_, change_;
  std::exception_ptr failure_;
  uint32_t wakeups_ = 0;
  bool running_ = false, stop_ = false;
  std::vector<std::thread> threads_;
};

} // namespace simpler
