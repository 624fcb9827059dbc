// Which tasks the bytes of device memory were last written and read by, exactly.
//
// A buffer is a plane of rows, as long as the pitch of the blocks that are used of it; a buffer of which only dense
// ranges are used has one endless row. Rows with the same history form a band. A band is cut into segments with one
// history each: the last writer, and the readers since. An access cuts the bands and segments it overlaps at its own
// edges, depends on their writers (and, when it writes, on their readers), and then becomes their history. A write
// leaves one segment a band, so that what is used again and again doesn't crumble.
//
// Graphs are mostly built by loops: each operand is looked for beside the place where it was the last time.
#pragma once

#include "graph/footprint.h"
#include "graph/task_list.h"

#include <map>
#include <memory_resource>
#include <unordered_map>

namespace simpler {

class TensorMap {
public:
  TensorMap() = default;
  TensorMap(const TensorMap &) = delete;
  TensorMap &operator=(const TensorMap &) = delete;

  // Records that `task` reads or writes these bytes of the buffer that begins at `buffer`, and calls depend(other) for
  // each task it has to wait for, perhaps more than once. Tasks for which live(other) is false are through: they are
  // left out and forgotten. `operand`: which of the task's tensors it is. A `task` that does not exist: somebody who is
  // through as soon as those are for whom he waits.
  template <class Live, class Depend>
  void access(uint64_t buffer, const Footprint &part, bool writes, TaskId task, uint32_t operand, Live &&live,
              Depend &&depend) {
    if (part.width == 0 || part.rows == 0)
      return;
    if (segment_count_ >= sweep_at_)
      sweep(live);
    Finger &finger = fingers_[operand % FINGERS];
    if (finger.plane == nullptr || finger.buffer != buffer) {
      finger.plane = &planes_.try_emplace(buffer, &pool_).first->second;
      finger.buffer = buffer;
      finger.band = nullptr;
    }
    Plane &plane = *finger.plane;
    const auto depend_on = [&](TaskId other) {
      if (other.exists() && other != task && live(other))
        depend(other);
    };
    Access<Live, decltype(depend_on)> access{*this, finger, plane, writes, task, live, depend_on};
    const uint64_t at = part.begin - buffer;
    if (part.rows > 1 && plane.pitch == 0)
      fold(plane, part.pitch);
    if (part.rows > 1 && part.pitch == plane.pitch && at % plane.pitch + part.width <= plane.pitch) {
      access.block(at / plane.pitch, part.rows, at % plane.pitch, part.width);
      return;
    }
    for (uint64_t row = 0; row < part.rows; ++row)
      access.range(at + row * part.pitch, part.width);
  }

  // Forgets a buffer: all tasks that used it are through.
  void forget(uint64_t buffer) {
    const auto it = planes_.find(buffer);
    if (it == planes_.end())
      return;
    for (const auto &[row, band] : it->second.bands)
      segment_count_ -= band.segments.size();
    planes_.erase(it);
    lift_fingers();
  }

  void clear() {
    lift_fingers();
    planes_.clear();
    if (sweep_at_ > KEEP_FOR) {
      spare_.clear();
      pool_.release();
    }
    segment_count_ = 0;
    sweep_at_ = SWEEP_FROM;
  }
  size_t segments() const { return segment_count_; }

private:
  static constexpr size_t SWEEP_FROM = 1024;
  static constexpr size_t MOST_SPARE = 2 * SWEEP_FROM;
  static constexpr size_t KEEP_FOR = 64 * SWEEP_FROM; // segments; memory for more is given back after the run
  static constexpr uint32_t FINGERS = 8;

  struct Segment {
    uint64_t end = 0;
    TaskId writer;
    TaskList readers; // since that write
  };
  using Segments = std::pmr::map<uint64_t, Segment>; // by begin; never overlapping
  struct Band {
    uint64_t end = 0; // the first row that does not belong to it
    Segments segments;
  };
  struct Plane {
    explicit Plane(std::pmr::memory_resource *pool) : bands(pool) {}
    uint64_t pitch = 0;                  // 0: one endless row
    std::pmr::map<uint64_t, Band> bands; // by first row; never overlapping
  };
  // Where an operand was found the last time.
  struct Finger {
    uint64_t buffer = 0;
    Plane *plane = nullptr;
    Band *band = nullptr; // null: what follows means nothing
    uint64_t row = 0;     // its first
    Segments::iterator at;
  };

  template <class Live, class DependOn> struct Access {
    TensorMap &map;
    Finger &finger;
    Plane &plane;
    bool writes;
    TaskId task;
    Live &live;
    DependOn &depend_on;

    // Consecutive bytes, as blocks of the plane: at most a part of a row, whole rows, and a part of a row.
    void range(uint64_t at, uint64_t nbytes) {
      if (plane.pitch == 0)
        return block(0, 1, at, nbytes);
      while (nbytes != 0) {
        const uint64_t row = at / plane.pitch, column = at % plane.pitch;
        const uint64_t rows = column == 0 ? std::max<uint64_t>(1, nbytes / plane.pitch) : 1;
        const uint64_t width = std::min(nbytes, plane.pitch - column);
        block(row, rows, column, width);
        at += rows * width;
        nbytes -= rows * width;
      }
    }

    void block(uint64_t row, uint64_t rows, uint64_t column, uint64_t width) {
      auto &bands = plane.bands;
      const uint64_t end = row + rows;
      if (finger.band != nullptr && rows == 1 && finger.row == row && finger.band->end == end)
        return in_band(*finger.band, row, column, column + width);
      map.cut_rows(plane, row);
      map.cut_rows(plane, end);
      auto it = bands.lower_bound(row);
      while (row < end) {
        if (it == bands.end() || it->first > row) { // a gap: nobody used these rows so far
          const uint64_t gap_end = it == bands.end() ? end : std::min(end, it->first);
          it = bands.emplace_hint(it, row, Band{gap_end, Segments(&map.pool_)});
        }
        in_band(it->second, it->first, column, column + width);
        row = it->second.end;
        ++it;
      }
    }

    void in_band(Band &band, uint64_t row, uint64_t begin, uint64_t end) {
      Segments &segments = band.segments;
      auto it = map.find(finger, band, begin);
      const bool equal = it != segments.end() && it->first == begin && it->second.end == end;
      if (!equal && !is_gap(segments, it, begin, end)) {
        map.cut(segments, begin);
        map.cut(segments, end);
        it = segments.lower_bound(begin);
      }
      if (writes)
        it = write(segments, it, begin, end);
      else
        it = read(segments, it, begin, end);
      finger.band = &band;
      finger.row = row;
      finger.at = it;
    }

    Segments::iterator write(Segments &segments, Segments::iterator it, uint64_t begin, uint64_t end) {
      // The first segment becomes the one that is left, where it starts at the right place: mostly it is the only one.
      const auto first = it != segments.end() && it->first == begin ? it++ : map.insert(segments, it, begin, Segment{});
      Segment &left = first->second;
      depend_on(left.writer);
      left.readers.each(depend_on);
      left.end = end;
      left.writer = task;
      left.readers.clear();
      while (it != segments.end() && it->first < end) {
        depend_on(it->second.writer);
        it->second.readers.each(depend_on);
        it = map.erase(segments, it);
      }
      return first;
    }

    Segments::iterator read(Segments &segments, Segments::iterator it, uint64_t begin, uint64_t end) {
      auto first = segments.end();
      for (uint64_t at = begin; at < end;) {
        if (it == segments.end() || it->first > at) { // a gap: nobody used it so far
          const uint64_t gap_end = it == segments.end() ? end : std::min(end, it->first);
          it = map.insert(segments, it, at, Segment{gap_end, {}, {}});
        }
        depend_on(it->second.writer);
        if (task.exists())
          it->second.readers.add(task, live);
        if (first == segments.end())
          first = it;
        at = it->second.end;
        ++it;
      }
      return first;
    }
  };

  // Nobody used these bytes so far; `it` is the first segment that begins there or behind.
  static bool is_gap(const Segments &segments, Segments::const_iterator it, uint64_t begin, uint64_t end) {
    return (it == segments.end() || it->first >= end) && (it == segments.begin() || std::prev(it)->second.end <= begin);
  }

  // The first segment that begins there or behind.
  Segments::iterator find(const Finger &finger, Band &band, uint64_t begin) {
    if (finger.band == &band) {
      auto it = finger.at;
      if (it != band.segments.end() && it->first < begin) {
        ++it;
        if (it == band.segments.end() || it->first >= begin)
          return it;
      } else if (it != band.segments.end() && it->first == begin) {
        return it;
      }
    }
    return band.segments.lower_bound(begin);
  }

  Segments::iterator insert(Segments &segments, Segments::iterator hint, uint64_t begin, Segment segment) {
    ++segment_count_;
    if (spare_.empty())
      return segments.emplace_hint(hint, begin, std::move(segment));
    Segments::node_type node = std::move(spare_.back());
    spare_.pop_back();
    node.key() = begin;
    node.mapped() = std::move(segment);
    return segments.insert(hint, std::move(node));
  }

  // The next one. The fingers must be lifted, too.
  Segments::iterator remove(Segments &segments, Segments::iterator it) {
    --segment_count_;
    const auto next = std::next(it);
    if (spare_.size() < MOST_SPARE)
      spare_.push_back(segments.extract(it));
    else
      segments.erase(it);
    return next;
  }

  Segments::iterator erase(Segments &segments, Segments::iterator it) {
    lift_fingers();
    return remove(segments, it);
  }

  // Makes `at` a border between segments where it lies inside one.
  void cut(Segments &segments, uint64_t at) {
    auto it = segments.lower_bound(at);
    if (it == segments.begin())
      return;
    --it;
    if (it->second.end <= at)
      return;
    Segment right = it->second;
    it->second.end = at;
    insert(segments, std::next(it), at, std::move(right));
  }

  // The same between bands.
  void cut_rows(Plane &plane, uint64_t row) {
    auto it = plane.bands.lower_bound(row);
    if (it == plane.bands.begin())
      return;
    --it;
    if (it->second.end <= row)
      return;
    Band below{it->second.end, Segments(it->second.segments, &pool_)};
    segment_count_ += below.segments.size();
    it->second.end = row;
    plane.bands.emplace_hint(std::next(it), row, std::move(below));
    lift_fingers();
  }

  // Makes one endless row rows of this length.
  void fold(Plane &plane, uint64_t pitch) {
    plane.pitch = pitch;
    lift_fingers();
    if (plane.bands.empty())
      return;
    const Segments flat = std::move(plane.bands.begin()->second.segments);
    plane.bands.clear();
    segment_count_ -= flat.size();
    const auto nobody = [](TaskId) {};
    const auto all = [](TaskId) { return true; };
    Finger finger;
    for (const auto &[begin, segment] : flat) {
      if (segment.writer.exists())
        Access<decltype(all), decltype(nobody)>{*this, finger, plane, true, segment.writer, all, nobody}.range(
            begin, segment.end - begin);
      segment.readers.each([&](TaskId reader) {
        Access<decltype(all), decltype(nobody)>{*this, finger, plane, false, reader, all, nobody}.range(
            begin, segment.end - begin);
      });
    }
  }

  template <class Live> void sweep(Live &&live) {
    lift_fingers();
    for (auto plane = planes_.begin(); plane != planes_.end();) {
      auto &bands = plane->second.bands;
      for (auto band = bands.begin(); band != bands.end();) {
        auto &segments = band->second.segments;
        for (auto it = segments.begin(); it != segments.end();) {
          const Segment &segment = it->second;
          const bool used = (segment.writer.exists() && live(segment.writer)) || segment.readers.any(live);
          it = used ? std::next(it) : remove(segments, it);
        }
        band = segments.empty() ? bands.erase(band) : std::next(band);
      }
      plane = bands.empty() ? planes_.erase(plane) : std::next(plane);
    }
    sweep_at_ = std::max(SWEEP_FROM, 2 * segment_count_);
  }

  void lift_fingers() {
    for (Finger &finger : fingers_)
      finger = {};
  }

  std::pmr::unsynchronized_pool_resource pool_;
  std::vector<Segments::node_type> spare_;     // of segments that were forgotten, for the next ones
  std::unordered_map<uint64_t, Plane> planes_; // by where the buffer begins
  Finger fingers_[FINGERS];
  size_t segment_count_ = 0, sweep_at_ = SWEEP_FROM;
};

} // namespace simpler
