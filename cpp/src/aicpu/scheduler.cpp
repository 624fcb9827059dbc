#include "aicpu/scheduler.h"

#include "simpler/errors.h"

#include <algorithm>
#include <csignal>
#include <pthread.h>
#include <system_error>
#include <utility>

namespace simpler {
namespace {

// How often the waiting thread asks whether the user has had enough.
constexpr std::chrono::milliseconds INTERRUPT_INTERVAL{50};

} // namespace

Scheduler::Scheduler(const PlatformInfo &info, uint32_t threads, uint32_t task_slots)
    : info_(info), max_threads_(std::max(1U, threads)), slots_(std::max(1U, task_slots)) {
  for (uint32_t type = 0; type < CORE_TYPE_COUNT; ++type)
    for (uint32_t i = 0; i < info.cores(static_cast<CoreType>(type)); ++i)
      cores_.push_back(std::make_unique<AiCore>(static_cast<uint32_t>(cores_.size()), static_cast<CoreType>(type),
                                                info.core_memory_nbytes[type]));
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

void Scheduler::begin(std::string_view callable, uint32_t clusters, const InterruptCheck &interrupted) {
  const Lock lock(mutex_);
  callable_ = callable;
  interrupted_ = interrupted ? &interrupted : nullptr;
  next_interrupt_check_ = std::chrono::steady_clock::now() + INTERRUPT_INTERVAL;
  failure_ = nullptr;
  next_id_ = 0;
  for (uint32_t type = 0, first = 0; type < CORE_TYPE_COUNT; ++type) {
    const uint32_t used = clusters * (type == 0 ? AIC_PER_CLUSTER : AIV_PER_CLUSTER);
    idle_cores_[type].clear();
    // The core that was used last comes first again: its local memory is warm.
    for (uint32_t i = used; i-- > 0;)
      idle_cores_[type].push_back(cores_[first + i].get());
    first += info_.cores(static_cast<CoreType>(type));
  }
}

TaskSlot &Scheduler::acquire() {
  TaskSlot &slot = slots_[next_id_ % slots_.size()];
  const auto is_free = [&] { return slot.finished.load(std::memory_order_acquire); };
  if (!is_free() && !help_until(is_free, Awaits::ANY_TASK))
    throw RingFull("task ring", "the task ring is full: " + std::to_string(slots_.size()) +
                                    " slots, and no task in them can run; enlarge it (task_ring_slots)");
  if (failed())
    throw RunAborted{};
  slot.id = next_id_;
  slot.waits_for = 0;
  slot.holds.clear();
  return slot;
}

void Scheduler::submit(TaskSlot &slot, const std::vector<uint64_t> &producers) {
  Lock lock(mutex_);
  ++next_id_;
  ++in_flight_;
  slot.finished.store(false, std::memory_order_relaxed);
  slot.dependents.clear();
  for (const uint64_t id : producers) {
    TaskSlot &producer = slots_[id % slots_.size()];
    if (!is_live(id) || producer.last_dependent == slot.id)
      continue;
    producer.last_dependent = slot.id;
    producer.dependents.push_back(&slot);
    ++slot.waits_for;
  }
  slot.last_dependent = ~0ULL;
  if (slot.waits_for == 0) {
    push_ready(slot);
    wake_others();
  }
}

void Scheduler::fail(std::exception_ptr reason) {
  const Lock lock(mutex_);
  if (failure_ == nullptr)
    failure_ = std::move(reason);
}

bool Scheduler::failed() {
  const Lock lock(mutex_);
  return failure_ != nullptr;
}

void Scheduler::finish() {
  try {
    help_until([this] { return in_flight_ == 0; }, Awaits::THE_END);
  } catch (const RunAborted &) { // told below, with its reason
  } catch (const Interrupted &) {
    fail(std::current_exception());
  }
  Lock lock(mutex_);
  while (executing_ != 0)
    wait_for_change(lock);
  if (in_flight_ != 0 && failure_ == nullptr)
    failure_ = std::make_exception_ptr(ChipError("the run stopped with " + std::to_string(in_flight_) + " tasks left"));
  in_flight_ = 0;
  for (ReadyQueue &queue : ready_)
    queue = {};
  if (failure_ != nullptr) {
    for (TaskSlot &slot : slots_) // tasks that were never run leave no trace
      slot.finished.store(true, std::memory_order_relaxed);
    std::rethrow_exception(std::exchange(failure_, nullptr));
  }
}

size_t Scheduler::started_threads() {
  const Lock lock(mutex_);
  return threads_.size();
}

// The next task and a core for it; nothing when no ready task has an idle core of its type.
Scheduler::Dispatch Scheduler::take() {
  if (failure_ != nullptr)
    return {};
  ReadyQueue *oldest = nullptr;
  uint32_t type = 0;
  for (uint32_t i = 0; i < CORE_TYPE_COUNT; ++i)
    if (ready_[i].first != nullptr && !idle_cores_[i].empty() &&
        (oldest == nullptr || ready_[i].first->id < oldest->first->id)) {
      oldest = &ready_[i];
      type = i;
    }
  if (oldest == nullptr)
    return {};
  const Dispatch dispatch{oldest->first, idle_cores_[type].back()};
  oldest->first = dispatch.slot->next_ready;
  if (--oldest->size == 0)
    oldest->last = nullptr;
  idle_cores_[type].pop_back();
  ++executing_;
  return dispatch;
}

void Scheduler::execute(Dispatch dispatch, Lock &lock) {
  lock.unlock();
  const TaskSlot &slot = *dispatch.slot;
  const std::unique_ptr<std::string> failure =
      dispatch.core->run(slot.kernel->function, {slot.tensor_count, slot.scalar_count, slot.tensors, slot.scalars});
  lock.lock();
  if (failure != nullptr && failure_ == nullptr)
    failure_ = std::make_exception_ptr(KernelError(callable_, static_cast<int64_t>(slot.id),
                                                   std::string(slot.kernel->name), dispatch.core->core_id, *failure));
  finish_task(dispatch);
  wake_others();
}

void Scheduler::finish_task(Dispatch dispatch) {
  TaskSlot &slot = *dispatch.slot;
  idle_cores_[static_cast<uint32_t>(dispatch.core->type)].push_back(dispatch.core);
  --executing_;
  --in_flight_;
  for (HeapRing::Block *block : slot.holds)
    block->drop();
  for (TaskSlot *dependent : slot.dependents)
    if (--dependent->waits_for == 0)
      push_ready(*dependent);
  slot.finished.store(true, std::memory_order_release);
  // The caller is not woken for what the others do as well.
  if (caller_waits_ && (awaits_ == Awaits::ANY_TASK || in_flight_ == 0 || executing_ == 0))
    change_.notify_one();
}

void Scheduler::push_ready(TaskSlot &slot) {
  ReadyQueue &queue = ready_[static_cast<uint32_t>(slot.kernel->core_type)];
  slot.next_ready = nullptr;
  (queue.last != nullptr ? queue.last->next_ready : queue.first) = &slot;
  queue.last = &slot;
  ++queue.size;
}

size_t Scheduler::runnable() const {
  if (failure_ != nullptr)
    return 0;
  size_t count = 0;
  for (uint32_t type = 0; type < CORE_TYPE_COUNT; ++type)
    count += std::min(ready_[type].size, idle_cores_[type].size());
  return count;
}

// Gets a thread for each task that could run now, but one: that one is for the calling thread. A wake-up costs more
// than many a kernel, so none is made where this thread would have taken the task by the time the other one is there.
void Scheduler::wake_others() {
  const size_t wanted = runnable();
  if (wanted < 2)
    return;
  size_t coming = wakeups_;
  if (caller_waits_) {
    change_.notify_one();
    ++coming;
  }
  for (; coming + 1 < wanted && idle_threads_ > 0; ++coming) {
    --idle_threads_;
    ++wakeups_;
    work_.notify_one();
  }
  if (coming + 1 < wanted && threads_.size() + 1 < max_threads_)
    start_thread();
}

void Scheduler::start_thread() {
  // Signals from outside are for the thread that called us (Python's main thread); a thread's own faults stay its own.
  sigset_t outside, before;
  sigfillset(&outside);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP})
    sigdelset(&outside, fault);
  pthread_sigmask(SIG_SETMASK, &outside, &before);
  try {
    threads_.emplace_back([this] { work(); });
  } catch (const std::system_error &) { // no more threads to be had: the graph gets through with those there are
    max_threads_ = static_cast<uint32_t>(threads_.size()) + 1;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void Scheduler::work() {
  Lock lock(mutex_);
  while (!stop_) {
    if (const Dispatch dispatch = take(); dispatch.slot != nullptr) {
      execute(dispatch, lock);
      continue;
    }
    ++idle_threads_;
    work_.wait(lock, [this] { return stop_ || wakeups_ > 0; });
    if (wakeups_ > 0)
      --wakeups_; // who woke us has taken us off the idle ones
  }
}

// Waits until a task ends, or it is time to ask for an interrupt. False: none executes.
bool Scheduler::wait_for_change(Lock &lock) {
  if (executing_ == 0)
    return false;
  caller_waits_ = true;
  change_.wait_for(lock, INTERRUPT_INTERVAL);
  caller_waits_ = false;
  return true;
}

void Scheduler::check_interrupt(Lock &lock) {
  if (interrupted_ == nullptr || std::chrono::steady_clock::now() < next_interrupt_check_)
    return;
  next_interrupt_check_ = std::chrono::steady_clock::now() + INTERRUPT_INTERVAL;
  lock.unlock();
  const bool stop = (*interrupted_)();
  lock.lock();
  if (stop)
    throw Interrupted{};
}

} // namespace simpler
