#include "aicpu/scheduler.h"

#include "simpler/errors.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace simpler {
namespace {

// How often the waiting thread asks whether the user has had enough.
constexpr std::chrono::milliseconds INTERRUPT_INTERVAL{50};
constexpr uint64_t SUBMITS_A_CHECK = 64;
// How many slots a builder that found none waits for, if it can help.
constexpr uint64_t MOST_FREED = 64;

// A clock that costs little, to a few milliseconds.
std::chrono::steady_clock::time_point coarse_now() {
#ifdef CLOCK_MONOTONIC_COARSE
  timespec now;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return std::chrono::steady_clock::time_point(std::chrono::seconds(now.tv_sec) +
                                               std::chrono::nanoseconds(now.tv_nsec));
#else
  return std::chrono::steady_clock::now();
#endif
}

bool condition_holds(const TaskSlot &slot) {
  const auto *bytes = reinterpret_cast<const unsigned char *>(slot.spill->condition);
  return std::any_of(bytes, bytes + slot.condition_nbytes, [](unsigned char byte) { return byte != 0; });
}

} // namespace

Scheduler::Scheduler(const PlatformInfo &info, CoreArray &cores, uint32_t threads, uint32_t task_slots)
    : info_(info), cores_(cores), max_threads_(std::max(1U, threads)), task_slots_(std::max(1U, task_slots)),
      slots_(new TaskSlot[task_slots_]), lanes_(new Lane[max_threads_]) {
  for (uint32_t i = 0; i < max_threads_; ++i)
    lanes_[i].index = i;
}

Scheduler::~Scheduler() {
  {
    const Lock lock(mutex_);
    stop_ = true;
  }
  work_.notify_all();
  for (std::thread &thread : threads_)
    thread.join();
}

size_t Scheduler::started_threads() {
  const Lock lock(mutex_);
  return threads_.size();
}

void Scheduler::prewarm() {
  const Lock lock(mutex_);
  if (threads_.empty() && max_threads_ > 1)
    start_thread(lock);
}

void Scheduler::begin(const ExecutorRun &run) {
  run_ = run;
  submitted_ = known_finished_ = 0;
  cursor_ = 0;
  next_interrupt_check_ = coarse_now() + INTERRUPT_INTERVAL;
  for (uint32_t type = 0; type < CORE_TYPE_COUNT; ++type) {
    used_[type] = run.clusters * (type == 0 ? AIC_PER_CLUSTER : AIV_PER_CLUSTER);
    owned_[type] = used_[type] >= max_threads_;
    idle_[type].clear();
    // The core that was used last comes first again: its local memory is warm.
    for (uint32_t i = owned_[type] ? 0 : used_[type]; i-- > 0;)
      idle_[type].push_back(i);
    idle_count_[type].store(owned_[type] ? 1 : static_cast<uint32_t>(idle_[type].size()), std::memory_order_relaxed);
  }
  for (uint32_t i = 0; i < max_threads_; ++i)
    lanes_[i].finished.store(0, std::memory_order_relaxed);
  const Lock lock(mutex_);
  failure_ = nullptr;
  failed_.store(false, std::memory_order_release);
  building_.store(true, std::memory_order_relaxed);
  running_ = true;
}

// There must be one.
TaskSlot &Scheduler::free_slot() {
  do
    cursor_ = cursor_ + 1 < run_.task_slots ? cursor_ + 1 : 0;
  while (!slots_[cursor_].is_through());
  return slots_[cursor_];
}

TaskSlot &Scheduler::acquire(uint64_t number) {
  if (failed())
    throw RunAborted{};
  if (number % SUBMITS_A_CHECK == 0)
    check_interrupt();
  const auto free = [this] { return run_.task_slots - (submitted_ - known_finished_); };
  if (free() == 0) {
    // Some at a time, if there is work for this thread: each turn between building and executing costs.
    const uint64_t enough = std::clamp<uint64_t>(run_.task_slots / 4, 1, MOST_FREED);
    const auto freed = [&](uint64_t count) {
      known_finished_ = finished();
      return free() >= count;
    };
    if (!help([&] { return freed(1); }, [&] { return freed(enough); }, Awaits::ANY_TASK))
      throw RingFull("task ring", "the task ring is full: " + std::to_string(run_.task_slots) +
                                      " slots, and no task in them can run; enlarge it (task_ring_slots)");
  }
  TaskSlot &slot = free_slot();
  slot.id = TaskId(number, static_cast<uint32_t>(&slot - slots_.get()));
  return slot;
}

void Scheduler::submit(TaskSlot &slot, std::span<const TaskId> producers) {
  ++submitted_;
  slot.dependents.store(nullptr, std::memory_order_relaxed);
  if (producers.empty()) {
    make_ready(caller(), slot);
    return;
  }
  // Nobody makes it ready before all of its edges are there: it also waits for this call.
  uint32_t missed = 1;
  slot.waits_for.store(static_cast<uint32_t>(producers.size()) + 1, std::memory_order_relaxed);
  Edge *edge = slot.place_edges(producers.size());
  for (const TaskId id : producers) {
    TaskSlot &producer = slots_[id.slot()];
    Edge *head = producer.id == id ? producer.dependents.load(std::memory_order_acquire) : TaskSlot::through();
    do {
      *edge = {head, &slot};
    } while (head != TaskSlot::through() && !producer.dependents.compare_exchange_weak(
                                                head, edge, std::memory_order_acq_rel, std::memory_order_acquire));
    if (head == TaskSlot::through())
      ++missed;
    else
      ++edge;
  }
  if (slot.waits_for.fetch_sub(missed, std::memory_order_acq_rel) == missed)
    make_ready(caller(), slot);
}

void Scheduler::launch(std::span<TaskSlot *const> first, uint64_t count) {
  submitted_ += count;
  for (TaskSlot *slot : first)
    make_ready(caller(), *slot);
}

void Scheduler::fail(std::exception_ptr reason) {
  const Lock lock(mutex_);
  if (failure_ == nullptr)
    failure_ = std::move(reason);
  failed_.store(true);
}

bool Scheduler::wait(const std::function<bool()> &done) { return help(done, done, Awaits::ANY_TASK); }

void Scheduler::wait_all() {
  const auto over = [this] { return all_finished(); };
  help(over, over, Awaits::THE_END);
}

void Scheduler::finish() {
  try {
    wait_all();
  } catch (const RunAborted &) { // told below, with its reason
  } catch (const Interrupted &) {
    fail(std::current_exception());
  }
  sleep_as_caller([this] { return !anyone_busy(); }, Awaits::ANY_TASK);
  std::exception_ptr reason;
  {
    const Lock lock(mutex_);
    running_ = false;
    if (failure_ == nullptr && !all_finished())
      failure_ = std::make_exception_ptr(ChipError("the run stopped with tasks left that wait for each other"));
    reason = std::exchange(failure_, nullptr);
  }
  if (reason == nullptr)
    return;
  failed_.store(true);
  while (anyone_busy()) // somebody may have looked just now
    std::this_thread::yield();
  for (uint32_t i = 0; i < max_threads_; ++i)
    for (ReadyQueue &queue : lanes_[i].ready)
      queue.clear();
  for (uint32_t i = 0; i < task_slots_; ++i) // tasks that were never run leave no trace
    slots_[i].dependents.store(TaskSlot::through(), std::memory_order_relaxed);
  std::rethrow_exception(reason);
}

uint64_t Scheduler::finished() const {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < max_threads_; ++i)
    sum += lanes_[i].finished.load(std::memory_order_acquire);
  return sum;
}

bool Scheduler::all_finished() const { return finished() == submitted_; }

bool Scheduler::anyone_busy() const {
  for (uint32_t i = 1; i < max_threads_; ++i)
    if (lanes_[i].busy.load())
      return true;
  return false;
}

// Executes tasks until `enough()`, or until `done()` when there is none for this thread. False: it isn't, and nothing
// runs that could change that.
template <class Done, class Enough> bool Scheduler::help(const Done &done, const Enough &enough, Awaits awaits) {
  struct Building {
    std::atomic<bool> &building;
    explicit Building(std::atomic<bool> &b) : building(b) { building.store(false, std::memory_order_relaxed); }
    ~Building() { building.store(true, std::memory_order_relaxed); }
  } building(building_);
  for (Work next;;) {
    const bool over = !failed() && enough();
    if (failed() || over) {
      if (next) {
        release(next.slot->core_type, next.core);
        caller().ready[static_cast<uint32_t>(next.slot->core_type)].push(*next.slot);
      }
      if (!over)
        throw RunAborted{};
      return true;
    }
    check_interrupt();
    if (!next)
      next = take(caller(), true);
    if (next) {
      next = continue_with(caller(), execute(caller(), next));
      continue;
    }
    if (done())
      return true;
    if (all_finished())
      return done();
    sleep_as_caller([&] { return done() || failed() || all_finished() || anything_to_take(caller()); }, awaits);
  }
}

// Waits until `over()`, or it is time to ask for an interrupt.
template <class Done> void Scheduler::sleep_as_caller(const Done &over, Awaits awaits) {
  for (int spins = 0; spins < SPINS; ++spins) {
    if (over())
      return;
    SpinLock::pause();
  }
  Lock lock(mutex_);
  const auto deadline = std::chrono::steady_clock::now() + INTERRUPT_INTERVAL;
  do {
    caller_awaits_.store(awaits);
    if (over())
      break;
  } while (change_.wait_until(lock, deadline) == std::cv_status::no_timeout);
  caller_awaits_.store(Awaits::NOTHING);
}

// The next task for this thread, with a core. `few`: also those that are left to the caller while it builds.
Scheduler::Work Scheduler::take(Lane &lane, bool few) {
  if (const Work own = take_from(lane, lane))
    return own;
  for (uint32_t i = 1; i < max_threads_; ++i) {
    Lane &victim = lanes_[(lane.index + i) % max_threads_];
    if (victim.index == 0 && !few && victim.size() < FEW && building_.load(std::memory_order_relaxed))
      continue;
    if (const Work stolen = take_from(lane, victim))
      return stolen;
  }
  return {};
}

Scheduler::Work Scheduler::take_from(Lane &lane, Lane &victim) {
  for (uint32_t i = 0; i < CORE_TYPE_COUNT; ++i) {
    ReadyQueue &queue = victim.ready[i];
    const auto type = static_cast<CoreType>(i);
    Work work;
    if (queue.size() == 0 || !claim(lane, type, work.core))
      continue;
    work.slot = &lane == &victim ? queue.pop(work.block) : lane.ready[i].steal(queue, work.block);
    if (work)
      return work;
    release(type, work.core);
  }
  return {};
}

bool Scheduler::claim(const Lane &lane, CoreType type, uint32_t &core) {
  const auto i = static_cast<uint32_t>(type);
  core = lane.index;
  if (owned_[i])
    return true;
  const std::lock_guard lock(idle_lock_);
  if (idle_[i].empty())
    return false;
  core = idle_[i].back();
  idle_[i].pop_back();
  idle_count_[i].store(static_cast<uint32_t>(idle_[i].size()), std::memory_order_relaxed);
  return true;
}

void Scheduler::release(CoreType type, uint32_t core) {
  const auto i = static_cast<uint32_t>(type);
  if (owned_[i])
    return;
  {
    const std::lock_guard lock(idle_lock_);
    idle_[i].push_back(core);
    idle_count_[i].store(static_cast<uint32_t>(idle_[i].size()), std::memory_order_relaxed);
  }
  wake(); // somebody may sleep because there was none
}

// A task that this thread has just made ready, if there is a core for it.
Scheduler::Work Scheduler::continue_with(Lane &lane, TaskSlot *slot) {
  Work work{slot, 0, 0};
  if (slot == nullptr || claim(lane, slot->core_type, work.core))
    return work;
  lane.ready[static_cast<uint32_t>(slot->core_type)].push(*slot);
  return {};
}

// Runs one block of a task. Gives a task that can run now, if it made one ready.
TaskSlot *Scheduler::execute(Lane &lane, Work work) {
  if (lane.size() != 0)
    wake();
  TaskSlot &slot = *work.slot;
  std::unique_ptr<std::string> failure;
  if (slot.has_kernel && (slot.condition_nbytes == 0 || condition_holds(slot)))
    failure = cores_.run(slot.core_type, work.core, slot, work.block);
  release(slot.core_type, work.core);
  if (failure != nullptr)
    fail(std::make_exception_ptr(KernelError(std::string(run_.callable), static_cast<int64_t>(slot.id.number()),
                                             std::string(run_.kernels[slot.kernel].name),
                                             cores_.core_id(slot.core_type, work.core), *failure)));
  if (slot.block_num > 1 && slot.waits_for.fetch_sub(1, std::memory_order_acq_rel) != 1)
    return nullptr;
  return finish_task(lane, slot);
}

TaskSlot *Scheduler::finish_task(Lane &lane, TaskSlot &slot) {
  Edge *edge;
  if (slot.recorded) {
    slot.waits_for.store(slot.fan_in, std::memory_order_relaxed); // for the next time
    edge = slot.dependents.load(std::memory_order_relaxed);
  } else {
    edge =
        slot.dependents.exchange(TaskSlot::through(), std::memory_order_acq_rel); // from here on it may be used again
  }
  TaskSlot *next = nullptr;
  while (edge != nullptr) {
    TaskSlot &dependent = *edge->dependent;
    edge = edge->next; // before the dependent can run, end and be used again
    // The last one it waits for needs no atomic subtraction: nobody else touches the count.
    if (dependent.waits_for.load(std::memory_order_acquire) != 1 &&
        dependent.waits_for.fetch_sub(1, std::memory_order_acq_rel) != 1)
      continue;
    if (next == nullptr && dependent.block_num == 1)
      next = &dependent;
    else
      make_ready(lane, dependent);
  }
  lane.finished.store(lane.finished.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  if (caller_awaits_.load(std::memory_order_relaxed) == Awaits::ANY_TASK)
    wake_caller();
  return next;
}

void Scheduler::make_ready(Lane &lane, TaskSlot &slot) {
  if (slot.block_num > 1) {
    slot.next_block = 0;
    slot.waits_for.store(slot.block_num, std::memory_order_relaxed);
  }
  lane.ready[static_cast<uint32_t>(slot.core_type)].push(slot);
  if (lane.index != 0 || !building_.load(std::memory_order_relaxed))
    return; // execute() gets help for what this thread does not do at once
  if (slot.block_num > 1 || lane.size() > 1)
    wake();
  else if (!watched_.load(std::memory_order_relaxed) && !waking_.load(std::memory_order_relaxed) &&
           (resting_.load(std::memory_order_relaxed) != 0 || threads_started_.load(std::memory_order_relaxed) == 0))
    watch();
}

void Scheduler::check_interrupt() {
  if (run_.interrupted == nullptr || coarse_now() < next_interrupt_check_)
    return;
  next_interrupt_check_ = coarse_now() + INTERRUPT_INTERVAL;
  if ((*run_.interrupted)())
    throw Interrupted{};
}

} // namespace simpler
