// What a chip orchestration is written in. An orchestration is one shared object with one symbol:
//
//     extern "C" void orchestrate(simpler::Graph &graph, simpler::TaskArgsView args);
//
// It runs on an AICPU thread and submits kernels to the cores while earlier ones already execute. Dependencies follow
// from the tags in() out() inout() by overlapping ranges of device memory.
#pragma once

#include "simpler/kernel.h"

#include <initializer_list>

namespace simpler {

inline constexpr int32_t MAX_TASK_TENSORS = 32;
inline constexpr int32_t MAX_TASK_SCALARS = 32;

// One kernel launch, put together before it is submitted.
struct Task {
  // `id` names a kernel of this callable.
  explicit Task(int32_t id) : func_id(id) {}

  Task &in(ContinuousTensor t) { return add(t, TensorArgType::IN); }
  Task &out(ContinuousTensor t) { return add(t, TensorArgType::OUT); }
  Task &inout(ContinuousTensor t) { return add(t, TensorArgType::INOUT); }
  Task &no_dep(ContinuousTensor t) { return add(t, TensorArgType::NO_DEP); }

  // Scalars reach the kernel as 64 bits: a double as the bits of that double.
  Task &scalar(double value) {
    uint64_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return scalar_bits(bits);
  }
  Task &scalar(float value) { return scalar(static_cast<double>(value)); }
  template <class Int> Task &scalar(Int value) {
    static_assert(static_cast<Int>(1.5) == 1, "a scalar is an integer or a floating-point number");
    return scalar_bits(static_cast<uint64_t>(static_cast<int64_t>(value)));
  }

  // Counts go on beyond the limits, so that submit() can say by how much they were exceeded.
  int32_t func_id;
  int32_t tensor_count = 0;
  int32_t scalar_count = 0;
  TensorArgType tags[MAX_TASK_TENSORS];
  ContinuousTensor tensors[MAX_TASK_TENSORS];
  uint64_t scalars[MAX_TASK_SCALARS];

private:
  Task &add(const ContinuousTensor &t, TensorArgType tag) {
    if (tensor_count < MAX_TASK_TENSORS) {
      tensors[tensor_count] = t;
      tags[tensor_count] = tag;
    }
    ++tensor_count;
    return *this;
  }
  Task &scalar_bits(uint64_t bits) {
    if (scalar_count < MAX_TASK_SCALARS)
      scalars[scalar_count] = bits;
    ++scalar_count;
    return *this;
  }
};

// The graph of one run, as its orchestration sees it.
struct Graph {
  // A tensor in a HeapRing of the chip, valid until the innermost open Scope ends, or for the run where none is open;
  // its bytes are undefined. Waits while the ring is full and tasks that may free it still run; otherwise the run ends
  // with RingFull.
  ContinuousTensor alloc(DataType dtype, std::initializer_list<int64_t> shape) {
    return services->alloc(*this, dtype, shape.begin(), static_cast<uint32_t>(shape.size()));
  }
  // Hands the task over. Returns at once, except while the ring of task slots is full.
  void submit(const Task &task) { services->submit(*this, task); }
  // Ends the orchestration and with it the run, with the text "where: message" ("message" where `where` is null).
  [[noreturn]] void fail(const char *where, const char *format, ...) __attribute__((format(printf, 3, 4))) {
    va_list values;
    va_start(values, format);
    services->fail(*this, where, format, values); // throws
    __builtin_unreachable();
  }

  struct Services {
    ContinuousTensor (*alloc)(Graph &graph, DataType dtype, const int64_t *shape, uint32_t ndims);
    void (*submit)(Graph &graph, const Task &task);
    void (*enter_scope)(Graph &graph);
    void (*leave_scope)(Graph &graph) noexcept;
    void (*fail)(Graph &graph, const char *where, const char *format, va_list values);
  };
  const Services *services;
};

// Lifetime bracket for tensors of Graph::alloc: their memory is used again once the scope has ended and the tasks
// submitted with them are through. Tasks may be submitted with them only while the scope is open.
class Scope {
public:
  explicit Scope(Graph &graph) : graph_(graph) { graph_.services->enter_scope(graph_); }
  ~Scope() { graph_.services->leave_scope(graph_); }
  Scope(const Scope &) = delete;
  Scope &operator=(const Scope &) = delete;

private:
  Graph &graph_;
};

using OrchestrationFunction = void (*)(Graph &, TaskArgsView);

// The part of `t` that starts at `offset` and has extents `shape`, without copying. It must be contiguous: after the
// first dimension of which more than one index is taken, every dimension is taken whole. Fails the run, naming `where`,
// otherwise and when it reaches outside `t`.
inline ContinuousTensor slice(Graph &graph, const ContinuousTensor &t, std::initializer_list<int64_t> shape,
                              std::initializer_list<int64_t> offset, const char *where) {
  if (shape.size() != t.ndims || offset.size() != t.ndims)
    graph.fail(where, "slice of a %u-dimensional tensor with %zu extents and %zu offsets", t.ndims, shape.size(),
               offset.size());
  ContinuousTensor part = t;
  uint64_t first = 0; // flat index of the first element
  bool whole_from_here = false;
  for (uint32_t i = 0; i < t.ndims; ++i) {
    const int64_t begin = offset.begin()[i], extent = shape.begin()[i], have = t.shapes[i];
    if (begin < 0 || extent < 0 || begin > have || extent > have - begin)
      graph.fail(where, "slice out of bounds in dimension %u: offset %lld, extent %lld, the tensor has %lld", i,
                 static_cast<long long>(begin), static_cast<long long>(extent), static_cast<long long>(have));
    if (whole_from_here && extent != have)
      graph.fail(where, "slice is not contiguous: dimension %u must be taken whole (%lld of %lld)", i,
                 static_cast<long long>(extent), static_cast<long long>(have));
    whole_from_here = whole_from_here || extent > 1;
    part.shapes[i] = static_cast<uint32_t>(extent);
    first = first * static_cast<uint64_t>(have) + static_cast<uint64_t>(begin);
  }
  part.data += first * itemsize(t.type());
  return part;
}

} // namespace simpler
