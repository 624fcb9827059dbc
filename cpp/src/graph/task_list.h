// A few tasks, most of which are through when somebody asks.
#pragma once

#include "graph/task_slot.h"

#include <algorithm>
#include <vector>

namespace simpler {

// Allocates nothing for up to two tasks, and drops those that are through before it grows.
class TaskList {
public:
  template <class Live> void add(TaskId task, Live &&live) {
    if (!empty() && last() == task)
      return;
    if (count_ < INLINE) {
      few_[count_++] = task;
      return;
    }
    if (more_.size() >= PRUNE_FROM && more_.size() == more_.capacity())
      std::erase_if(more_, [&](TaskId id) { return !live(id); });
    more_.push_back(task);
  }
  template <class Call> void each(Call &&call) const {
    for (uint32_t i = 0; i < std::min(count_, INLINE); ++i)
      call(few_[i]);
    for (TaskId task : more_)
      call(task);
  }
  template <class Live> bool any(Live &&live) const {
    bool found = false;
    each([&](TaskId id) { found = found || live(id); });
    return found;
  }
  void clear() {
    count_ = 0;
    more_.clear();
  }
  bool empty() const { return count_ == 0; }

private:
  static constexpr uint32_t INLINE = 2;
  static constexpr size_t PRUNE_FROM = 16;
  TaskId last() const { return more_.empty() ? few_[count_ - 1] : more_.back(); }

  uint32_t count_ = 0;
  TaskId few_[INLINE];
  std::vector<TaskId> more_;
};

} // namespace simpler
