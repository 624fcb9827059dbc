// The threads of a scheduler: when they start, sleep, are woken, and what each of them does.
#include "aicpu/scheduler.h"

#include <csignal>
#include <pthread.h>
#include <system_error>

namespace simpler {
namespace {

// Between two looks of the thread that watches: few tasks that are ready start after two at most.
constexpr std::chrono::microseconds WATCH_INTERVAL{100};
// Looks after which it sleeps until it is woken, when no run goes on.
constexpr int LAST_LOOKS = 100;

} // namespace

// Gets a thread for a task that could run now.
void Scheduler::wake() {
  if (caller_awaits_.load(std::memory_order_relaxed) != Awaits::NOTHING)
    return wake_caller();
  const bool asleep = sleepers_.load(std::memory_order_relaxed) != 0;
  if (waking_.load(std::memory_order_relaxed) ||
      (!asleep && threads_started_.load(std::memory_order_relaxed) + 1 >= max_threads_.load(std::memory_order_relaxed)))
    return;
  const Lock lock(mutex_);
  if (sleepers_.load() > wakeups_) {
    ++wakeups_;
    waking_.store(true);
    work_.notify_one();
  } else if (threads_.size() + 1 < max_threads_) {
    start_thread(lock);
  }
}

void Scheduler::wake_caller() {
  if (caller_awaits_.exchange(Awaits::NOTHING) == Awaits::NOTHING)
    return;
  const Lock lock(mutex_);
  change_.notify_one();
}

// Gets a thread that looks now and then.
void Scheduler::watch() {
  if (max_threads_ < 2)
    return;
  const Lock lock(mutex_);
  waking_.store(true);
  if (threads_.empty())
    start_thread(lock);
  else
    work_.notify_one();
}

void Scheduler::start_thread(const Lock &) {
  // Signals from outside are for the thread that called us (Python's main thread); a thread's own faults stay its own.
  sigset_t outside, before;
  sigfillset(&outside);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP})
    sigdelset(&outside, fault);
  pthread_sigmask(SIG_SETMASK, &outside, &before);
  try {
    Lane &lane = lanes_[threads_.size() + 1];
    threads_.emplace_back([this, &lane] { work(lane); });
    threads_started_.store(static_cast<uint32_t>(threads_.size()));
  } catch (const std::system_error &) { // no more threads to be had: the graph gets through with those there are
    max_threads_ = static_cast<uint32_t>(threads_.size()) + 1;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void Scheduler::work(Lane &lane) {
  for (bool few = false; sleep(lane, few);) {
    for (int spins = 0; spins < SPINS; ++spins) {
      if (!few && !anything_to_take(lane)) {
        SpinLock::pause();
        continue;
      }
      lane.busy.store(true);
      Work next;
      while (!failed() && (next || (next = take(lane, few)))) {
        next = continue_with(lane, execute(lane, next));
        few = false;
        spins = 0;
      }
      if (next) // the run has failed: nobody will ask for it
        release(next.slot->core_type, next.core);
      few = false;
      lane.busy.store(false);
      if (caller_awaits_.load() != Awaits::NOTHING)
        wake_caller();
      if (failed())
        break;
    }
  }
}

// Sleeps until there may be something to do; `few`: what is left to the caller else. False: it is time to end.
bool Scheduler::sleep(Lane &lane, bool &few) {
  Lock lock(mutex_);
  sleepers_.fetch_add(1);
  bool watching = false;
  for (int looks = 0; !stop_ && wakeups_ == 0 && !(running_ && !failed() && anything_to_take(lane));) {
    const bool worth_watching = running_ || looks < LAST_LOOKS;
    if (worth_watching && !watching && !watched_.exchange(true)) {
      watching = true;
      waking_.store(false);
      lane.seen_taken = ~0ULL;
    }
    if (watching && !worth_watching) {
      watching = false;
      watched_.store(false);
    }
    if (!watching) {
      resting_.fetch_add(1);
      work_.wait(lock);
      resting_.fetch_sub(1);
      looks = 0;
      continue;
    }
    looks = running_ ? 0 : looks + 1;
    work_.wait_for(lock, WATCH_INTERVAL);
    if (running_ && !failed() && few_tasks_wait(lane)) {
      few = true;
      break;
    }
  }
  if (wakeups_ > 0)
    --wakeups_;
  if (watching) {
    watched_.store(false);
    if (running_ && resting_.load() != 0)
      work_.notify_one(); // it watches now
  }
  waking_.store(false);
  sleepers_.fetch_sub(1);
  return !stop_;
}

// Whether a look into the lanes may be worth it.
bool Scheduler::anything_to_take(const Lane &lane) const {
  for (uint32_t i = 0; i < max_threads_; ++i) {
    const Lane &other = lanes_[i];
    const bool left_alone = i == 0 && lane.index != 0 && building_.load(std::memory_order_relaxed);
    if (other.size() < (left_alone ? FEW : 1))
      continue;
    for (uint32_t type = 0; type < CORE_TYPE_COUNT; ++type)
      if (other.ready[type].size() != 0 && idle_count_[type].load(std::memory_order_relaxed) != 0)
        return true;
  }
  return false;
}

// True when the caller had tasks at the last look already, and none was taken since.
bool Scheduler::few_tasks_wait(Lane &lane) {
  const uint64_t taken = lanes_[0].ready[0].taken() + lanes_[0].ready[1].taken();
  const bool waits = lanes_[0].size() != 0 && taken == lane.seen_taken;
  lane.seen_taken = lanes_[0].size() != 0 ? taken : ~0ULL;
  return waits;
}

} // namespace simpler
