// Which bytes a view covers.
#pragma once

#include "simpler/tensor.h"

#include <algorithm>

namespace simpler {

// `rows` runs of `width` bytes, `pitch` bytes apart.
struct Footprint {
  uint64_t begin;
  uint64_t width;
  uint64_t rows = 1;
  uint64_t pitch = 0;
};

// A view as a list of footprints, with as few runs as there can be.
class Footprints {
public:
  // Check problem() before anything else.
  explicit Footprints(const TensorView &t) : begin_(t.data), width_(itemsize(t.type())) {
    for (uint32_t i = 0; i < t.ndims; ++i) {
      if (t.shapes[i] == 0)
        width_ = 0; // nothing at all
      if (t.shapes[i] > 1 && !add(t.shapes[i], t.strides[i], itemsize(t.type())))
        return;
    }
    std::sort(dims_, dims_ + count_, [](const Dim &a, const Dim &b) { return a.pitch > b.pitch; });
    // From the innermost outwards: a dimension whose step is the size of what it repeats is a longer run.
    uint64_t extent_nbytes = width_; // from the first to the last byte of what is inside
    uint32_t kept = count_;
    for (uint32_t i = count_; i-- > 0;) {
      const Dim dim = dims_[i];
      uint64_t reach;
      if (dim.pitch < extent_nbytes) {
        problem_ = "strides by which it overlaps itself";
        return;
      }
      if (__builtin_mul_overflow(dim.pitch, dim.extent - 1, &reach) ||
          __builtin_add_overflow(extent_nbytes, reach, &extent_nbytes) || extent_nbytes >> 63) {
        problem_ = "strides that reach beyond 63 bits";
        return;
      }
      if (kept == count_ && dim.pitch == width_)
        width_ *= dim.extent;
      else if (kept < count_ && dim.pitch == dims_[kept].pitch * dims_[kept].extent)
        dims_[kept].extent *= dim.extent;
      else
        dims_[--kept] = dim;
    }
    std::copy(dims_ + kept, dims_ + count_, dims_);
    count_ -= kept;
    reach_ = width_ == 0 ? 0 : extent_nbytes;
  }

  // What is wrong with the strides; null when nothing is.
  const char *problem() const { return problem_; }
  uint64_t begin() const { return begin_; }
  // Bytes from the first to the last one, both included.
  uint64_t reach() const { return reach_; }

  template <class Call> void each(Call &&call) const { descend(0, begin_, call); }

private:
  struct Dim {
    uint64_t extent, pitch; // pitch in bytes
  };

  bool add(uint64_t extent, uint64_t stride, uint64_t item) {
    Dim &dim = dims_[count_++];
    dim.extent = extent;
    if (!__builtin_mul_overflow(stride, item, &dim.pitch))
      return true;
    problem_ = "strides that reach beyond 63 bits";
    return false;
  }

  template <class Call> void descend(uint32_t depth, uint64_t at, Call &call) const {
    if (width_ == 0)
      return;
    if (depth + 1 < count_) {
      for (uint64_t i = 0; i < dims_[depth].extent; ++i)
        descend(depth + 1, at + i * dims_[depth].pitch, call);
      return;
    }
    const bool rows = depth < count_;
    call(Footprint{at, width_, rows ? dims_[depth].extent : 1, rows ? dims_[depth].pitch : 0});
  }

  uint64_t begin_, width_, reach_ = 0;
  uint32_t count_ = 0;
  const char *problem_ = nullptr;
  Dim dims_[MAX_TENSOR_DIMS]; // the outermost first
};

} // namespace simpler
