// Tasks that can run now, the oldest first: its owner adds and takes, others may take too.
#pragma once

#include "graph/task_slot.h"

#include <mutex>
#include <thread>
#include <vector>

namespace simpler {

// A lock that is held for some nanoseconds.
class SpinLock {
public:
  void lock() {
    for (uint32_t tries = 1; locked_.exchange(true, std::memory_order_acquire); ++tries)
      while (locked_.load(std::memory_order_relaxed))
        if (tries % 64 == 0 || !pause())
          std::this_thread::yield(); // its owner may wait for this CPU
  }
  void unlock() { locked_.store(false, std::memory_order_release); }

  // Lets the other hardware thread go first. False after many times.
  static bool pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
    static thread_local uint32_t pauses = 0;
    return ++pauses % 1024 != 0;
  }

private:
  std::atomic<bool> locked_{false};
};

class ReadyQueue {
public:
  static constexpr size_t MOST_STOLEN = 32;

  void push(TaskSlot &slot) {
    const std::lock_guard lock(lock_);
    put(slot);
    size_.store(count_, std::memory_order_release);
  }

  // The oldest task, with the number of the block to run; null when there is none.
  TaskSlot *pop(uint32_t &block) {
    const std::lock_guard lock(lock_);
    return count_ == 0 ? nullptr : take(block);
  }

  // The same from another queue, of which up to a half is moved here.
  TaskSlot *steal(ReadyQueue &from, uint32_t &block) {
    TaskSlot *moved[MOST_STOLEN];
    size_t count = 0;
    TaskSlot *first = nullptr;
    {
      const std::lock_guard lock(from.lock_);
      const size_t most = std::min((from.count_ + 1) / 2, MOST_STOLEN);
      if (most != 0)
        first = from.take(block);
      for (uint32_t none; count + 1 < most && from.ring_[from.head_ & (from.ring_.size() - 1)]->block_num == 1;)
        moved[count++] = from.take(none);
    }
    if (count != 0) {
      const std::lock_guard lock(lock_);
      for (size_t i = 0; i < count; ++i)
        put(*moved[i]);
      size_.store(count_, std::memory_order_release);
    }
    return first;
  }

  void clear() {
    const std::lock_guard lock(lock_);
    head_ = count_ = 0;
    size_.store(0, std::memory_order_release);
  }

  // Tasks in it; may be old news.
  size_t size() const { return size_.load(std::memory_order_acquire); }
  // How many blocks were ever taken; may be old news.
  uint64_t taken() const { return taken_.load(std::memory_order_relaxed); }

private:
  void put(TaskSlot &slot) {
    if (count_ == ring_.size())
      grow();
    ring_[(head_ + count_++) & (ring_.size() - 1)] = &slot;
  }

  TaskSlot *take(uint32_t &block) {
    TaskSlot *slot = ring_[head_ & (ring_.size() - 1)];
    taken_.store(taken_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    block = 0;
    if (slot->block_num > 1) {
      block = slot->next_block++;
      if (slot->next_block < slot->block_num)
        return slot; // it stays for the others
    }
    ++head_;
    size_.store(--count_, std::memory_order_release);
    return slot;
  }

  void grow() {
    std::vector<TaskSlot *> larger(std::max<size_t>(64, 2 * ring_.size()));
    for (size_t i = 0; i < count_; ++i)
      larger[i] = ring_[(head_ + i) & (ring_.size() - 1)];
    ring_ = std::move(larger);
    head_ = 0;
  }

  SpinLock lock_;
  std::atomic<size_t> size_{0};
  std::atomic<uint64_t> taken_{0};
  size_t head_ = 0, count_ = 0;
  std::vector<TaskSlot *> ring_; // a power of two long
};

} // namespace simpler
