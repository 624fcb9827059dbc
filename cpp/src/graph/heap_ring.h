// Memory for what an orchestration allocates: handed out in a circle, taken back first in, first out.
//
// For the orchestrating thread alone: which tasks use a block is written down with it, and whether those are through is
// asked when memory is short.
#pragma once

#include "graph/task_list.h"

#include <algorithm>
#include <cstdint>
#include <deque>
#include <string>

namespace simpler {

class HeapRing {
public:
  static constexpr uint64_t ALIGNMENT = 1024;

  // The size that a ring of at least one block has, if it is to have about `nbytes`.
  static constexpr uint64_t whole(uint64_t nbytes) { return std::max<uint64_t>(1, nbytes / ALIGNMENT) * ALIGNMENT; }

  struct Block {
    uint64_t begin; // address
    uint64_t asked;
    uint64_t occupied;
    uint64_t skipped;     // bytes left unused before it, at the end of the ring
    uint64_t scope;       // which one of the run it was allocated in
    bool open = true;     // that scope has not ended
    bool written = false; // somebody was told to write it
    TaskList users = {};
  };

  HeapRing(std::string name, uint64_t base, uint64_t nbytes) : name_(std::move(name)), base_(base), nbytes_(nbytes) {}

  // A new open block; nullptr when there is no room, even after taking back what no live task uses.
  // `taken_back(block)` is called for each block that is gone.
  template <class Live, class TakenBack>
  Block *try_alloc(uint64_t nbytes, uint64_t scope, Live &&live, TakenBack &&taken_back) {
    reclaim(live, taken_back);
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
    return &blocks_.emplace_back(Block{base_ + begin, nbytes, occupied, skipped, scope});
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

  // Takes the oldest blocks back as long as they are closed and no live task uses them.
  template <class Live, class TakenBack> void reclaim(Live &&live, TakenBack &&taken_back) {
    while (!blocks_.empty() && !blocks_.front().open && !blocks_.front().users.any(live)) {
      taken_back(blocks_.front());
      used_ -= blocks_.front().occupied + blocks_.front().skipped;
      blocks_.pop_front();
    }
    if (blocks_.empty())
      head_ = used_ = 0;
  }

  // Forgets all blocks. From now on it is `nbytes` long.
  void reset(uint64_t nbytes) {
    blocks_.clear();
    nbytes_ = nbytes;
    head_ = used_ = high_water_ = 0;
  }

  const std::string &name() const { return name_; }
  uint64_t base() const { return base_; }
  uint64_t nbytes() const { return nbytes_; }
  uint64_t used() const { return used_; }
  uint64_t high_water() const { return high_water_; } // bytes from the base that were ever used since reset()
  size_t live_blocks() const { return blocks_.size(); }
  // The one that keeps all others from being taken back; null when there is none.
  const Block *oldest() const { return blocks_.empty() ? nullptr : &blocks_.front(); }
  // Bytes of blocks that were allocated in this scope.
  uint64_t used_by(uint64_t scope) const {
    uint64_t sum = 0;
    for (const Block &block : blocks_)
      sum += block.scope == scope ? block.occupied : 0;
    return sum;
  }

private:
  std::string name_;
  uint64_t base_, nbytes_;
  uint64_t head_ = 0, used_ = 0, high_water_ = 0;
  std::deque<Block> blocks_; // oldest first
};

} // namespace simpler
