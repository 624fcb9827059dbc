// Memory for what an orchestration allocates: handed out in a circle, taken back first in, first out.
//
// Only the orchestrating thread allocates, closes and reclaims. A task that uses a block holds it, and whichever thread
// finishes that task drops it again.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <deque>
#include <string>

namespace simpler {

class HeapRing {
public:
  static constexpr uint64_t ALIGNMENT = 1024;

  struct Block {
    uint64_t begin; // address
    uint64_t asked;
    uint64_t occupied;
    uint64_t skipped;              // bytes left unused before it, at the end of the ring
    bool open = true;              // its scope has not ended
    std::atomic<uint32_t> held{0}; // by this many tasks

    Block(uint64_t b, uint64_t a, uint64_t o, uint64_t s) : begin(b), asked(a), occupied(o), skipped(s) {}
    void hold() { held.fetch_add(1, std::memory_order_relaxed); }
    void drop() { held.fetch_sub(1, std::memory_order_release); }
  };

  HeapRing(std::string name, uint64_t base, uint64_t nbytes) : name_(std::move(name)), base_(base), nbytes_(nbytes) {}

  // A new open block; nullptr when there is no room, even after reclaiming.
  Block *try_alloc(uint64_t nbytes) {
    reclaim();
    if (nbytes > nbytes_)
      return nullptr;
    const uint64_t occupied = std::max<uint64_t>(1, (nbytes + ALIGNMENT - 1) / ALIGNMENT) * ALIGNMENT;
    const bool wraps = occupied > nbytes_ - head_; // does not fit before the end: it starts over at the beginning
    const uint64_t skipped = wraps ? nbytes_ - head_ : 0;
    if (occupied > nbytes_ || used_ + skipped + occupied > nbytes_)
      return nullptr;
    const uint64_t begin = wraps ? 0 : head_;
    head_ = begin + occupied;
    used_ += skipped + occupied;
    high_water_ = std::max(high_water_, head_);
    return &blocks_.emplace_back(base_ + begin, nbytes, occupied, skipped);
  }

  // The block with `address` in it, nullptr when there is none. Blocks lie in the order of their age, with one wrap.
  Block *find(uint64_t address) {
    if (blocks_.empty() || !covers(address))
      return nullptr;
    const uint64_t first = blocks_.front().begin;
    const auto turn = [&](uint64_t at) { return at >= first ? at - first : at + nbytes_ - first; };
    size_t low = 0, high = blocks_.size();
    while (high - low > 1) {
      const size_t middle = (low + high) / 2;
      (turn(blocks_[middle].begin) <= turn(address) ? low : high) = middle;
    }
    Block &block = blocks_[low];
    return address >= block.begin && address - block.begin < block.occupied ? &block : nullptr;
  }

  bool covers(uint64_t address) const { return address - base_ < nbytes_; }

  // Takes the oldest blocks back as long as they are closed and nobody holds them.
  void reclaim() {
    while (!blocks_.empty() && !blocks_.front().open && blocks_.front().held.load(std::memory_order_acquire) == 0) {
      used_ -= blocks_.front().occupied + blocks_.front().skipped;
      blocks_.pop_front();
    }
    if (blocks_.empty())
      head_ = used_ = 0;
  }

  // Forgets all blocks.
  void reset() {
    blocks_.clear();
    head_ = used_ = high_water_ = 0;
  }

  const std::string &name() const { return name_; }
  uint64_t base() const { return base_; }
  uint64_t nbytes() const { return nbytes_; }
  uint64_t used() const { return used_; }
  uint64_t high_water() const { return high_water_; } // bytes from the base that were ever used since reset()
  size_t live() const { return blocks_.size(); }

private:
  std::string name_;
  uint64_t base_, nbytes_;
  uint64_t head_ = 0, used_ = 0, high_water_ = 0;
  std::deque<Block> blocks_; // oldest first
};

} // namespace simpler
