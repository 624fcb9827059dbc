// Which tasks a range of device memory was last written and read by, byte for byte.
//
// The map cuts the address space into segments with one history each: the last writer, and the readers since. An access
// cuts the segments it overlaps at its own ends, depends on their writers (and, when it writes, on their readers), and
// then becomes their history. A write leaves one segment, so that ranges used again and again don't crumble.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

namespace simpler {

class TensorMap {
public:
  using TaskId = uint64_t;

  // Records that `task` reads or writes [begin, end), and calls depend(other) for each task it has to wait for, perhaps
  // more than once. Tasks for which live(other) is false are through: they are left out and forgotten.
  template <class Live, class Depend>
  void access(uint64_t begin, uint64_t end, bool writes, TaskId task, Live &&live, Depend &&depend) {
    if (begin >= end)
      return;
    if (segments_.size() >= sweep_at_)
      sweep(live);
    const auto depend_on = [&](TaskId other) {
      if (other != NO_TASK && other != task && live(other))
        depend(other);
    };
    cut(begin);
    cut(end);
    auto it = segments_.lower_bound(begin);
    if (writes) {
      // The first segment becomes the one that is left, where it starts at the right place: mostly it is the only one.
      const auto first =
          it != segments_.end() && it->first == begin ? it++ : segments_.emplace_hint(it, begin, Segment{});
      Segment &left = first->second;
      depend_on(left.writer);
      for (TaskId reader : left.readers)
        depend_on(reader);
      left.end = end;
      left.writer = task;
      left.readers.clear();
      while (it != segments_.end() && it->first < end) {
        depend_on(it->second.writer);
        for (TaskId reader : it->second.readers)
          depend_on(reader);
        it = segments_.erase(it);
      }
      return;
    }
    for (uint64_t at = begin; at < end;) {
      if (it == segments_.end() || it->first > at) { // a gap: nobody used it so far
        const uint64_t gap_end = it == segments_.end() ? end : std::min(end, it->first);
        segments_.emplace_hint(it, at, Segment{gap_end, NO_TASK, {task}});
        at = gap_end;
        continue;
      }
      depend_on(it->second.writer);
      add_reader(it->second, task, live);
      at = it->second.end;
      ++it;
    }
  }

  void clear() {
    segments_.clear();
    sweep_at_ = SWEEP_FROM;
  }
  size_t segments() const { return segments_.size(); }

private:
  static constexpr TaskId NO_TASK = ~TaskId{0};
  static constexpr size_t SWEEP_FROM = 1024;
  static constexpr size_t PRUNE_FROM = 16;

  struct Segment {
    uint64_t end = 0;
    TaskId writer = NO_TASK;
    std::vector<TaskId> readers; // since that write
  };

  // Makes `at` a border between segments where it lies inside one.
  void cut(uint64_t at) {
    auto it = segments_.lower_bound(at);
    if (it == segments_.begin())
      return;
    --it;
    if (it->second.end <= at)
      return;
    Segment right = it->second;
    it->second.end = at;
    segments_.emplace_hint(std::next(it), at, std::move(right));
  }

  // Weights that thousands of tasks read and none writes must not collect thousands of readers.
  template <class Live> void add_reader(Segment &segment, TaskId task, Live &&live) {
    auto &readers = segment.readers;
    if (!readers.empty() && readers.back() == task)
      return;
    if (readers.size() >= PRUNE_FROM && readers.size() == readers.capacity())
      readers.erase(std::remove_if(readers.begin(), readers.end(), [&](TaskId id) { return !live(id); }),
                    readers.end());
    readers.push_back(task);
  }

  template <class Live> void sweep(Live &&live) {
    for (auto it = segments_.begin(); it != segments_.end();) {
      const Segment &segment = it->second;
      const bool used = (segment.writer != NO_TASK && live(segment.writer)) ||
                        std::any_of(segment.readers.begin(), segment.readers.end(), live);
      it = used ? std::next(it) : segments_.erase(it);
    }
    sweep_at_ = std::max(SWEEP_FROM, 2 * segments_.size());
  }

  std::map<uint64_t, Segment> segments_; // by begin; never overlapping
  size_t sweep_at_ = SWEEP_FROM;
};

} // namespace simpler
