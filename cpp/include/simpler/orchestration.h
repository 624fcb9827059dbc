// What a chip orchestration is written in. An orchestration is one shared object with one symbol:
//
//     extern "C" void orchestrate(simpler::Graph &graph, simpler::TaskArgsView args);
//
// It submits kernels to the cores: under the runtime tensormap_and_ringbuffer from an AICPU thread, while earlier ones
// already execute; under host_build_graph from the host, and the graph executes when it is complete. Dependencies
// follow from the tags in() out() inout() by overlapping parts of device memory, and from after().
#pragma once

#include "simpler/kernel.h"

#include <initializer_list>

namespace simpler {

inline constexpr int32_t MAX_TASK_TENSORS = 32;
inline constexpr int32_t MAX_TASK_SCALARS = 32;
inline constexpr int32_t MAX_TASK_DEPENDENCIES = 32; // explicit ones
inline constexpr int32_t NO_KERNEL = INT32_MIN;      // the func_id of a task that only joins others

// A task that was submitted, for Task::after().
struct TaskHandle {
  uint64_t id = ~0ULL;
  uint64_t run = 0; // in which run of this chip
};

// One kernel launch, put together before it is submitted.
struct Task {
  // `id` names a kernel of this callable.
  explicit Task(int32_t id) : func_id(id) {}
  // A task that does nothing: whoever waits for it waits for all that it waits for.
  static Task join() { return Task(NO_KERNEL); }

  Task &in(const ContinuousTensor &t) { return add(t, TensorArgType::IN); }
  Task &out(const ContinuousTensor &t) { return add(t, TensorArgType::OUT); }
  Task &inout(const ContinuousTensor &t) { return add(t, TensorArgType::INOUT); }
  Task &no_dep(const ContinuousTensor &t) { return add(t, TensorArgType::NO_DEP); }
  Task &in(const TensorView &t) { return add(t, TensorArgType::IN); }
  Task &out(const TensorView &t) { return add(t, TensorArgType::OUT); }
  Task &inout(const TensorView &t) { return add(t, TensorArgType::INOUT); }
  Task &no_dep(const TensorView &t) { return add(t, TensorArgType::NO_DEP); }
  // An output that submit() creates as Graph::alloc does, and tells in `*created`.
  Task &out(ContinuousTensor *created, DataType dtype, std::initializer_list<int64_t> shape) {
    ContinuousTensor t{};
    t.ndims = static_cast<uint32_t>(shape.size());
    t.dtype = static_cast<uint8_t>(dtype);
    for (uint32_t i = 0; i < shape.size() && i < MAX_TENSOR_DIMS; ++i) {
      const int64_t extent = shape.begin()[i];
      bad_extent = bad_extent || extent < 0 || extent > UINT32_MAX;
      t.shapes[i] = static_cast<uint32_t>(extent);
    }
    if (tensor_count < MAX_TASK_TENSORS) {
      creates |= 1U << tensor_count;
      created_at[tensor_count] = created;
    }
    return add(t, TensorArgType::OUT);
  }

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

  // Waits also for this task, whatever the tensors say.
  Task &after(TaskHandle task) {
    if (dependency_count < MAX_TASK_DEPENDENCIES)
      dependencies[dependency_count] = task;
    ++dependency_count;
    return *this;
  }
  // Runs the kernel `count` times at once, as far as there are cores: Core::block_idx tells which of them it is. 0: as
  // many times as CallConfig::block_dim says.
  Task &blocks(uint32_t count) {
    block_num = count;
    return *this;
  }
  // The kernel runs only if this integer or bool, one element that an earlier task of the run or its caller wrote, is
  // not 0 by then. Otherwise the task is through without having done anything.
  Task &when(const ContinuousTensor &element) {
    condition = element;
    conditional = true;
    return *this;
  }

  // Counts go on beyond the limits, so that submit() can say by how much they were exceeded.
  int32_t func_id;
  int32_t tensor_count = 0;
  int32_t scalar_count = 0;
  int32_t dependency_count = 0;
  uint32_t block_num = 1;
  uint32_t strided = 0; // bit i: tensors[i] is not dense; the strides of the others are not set
  uint32_t creates = 0; // bit i: submit() allocates tensors[i]
  bool conditional = false;
  bool bad_extent = false;
  TensorArgType tags[MAX_TASK_TENSORS];
  ContinuousTensor condition;
  TensorView tensors[MAX_TASK_TENSORS];
  uint64_t scalars[MAX_TASK_SCALARS];
  TaskHandle dependencies[MAX_TASK_DEPENDENCIES];
  ContinuousTensor *created_at[MAX_TASK_TENSORS];

private:
  Task &add(const ContinuousTensor &t, TensorArgType tag) {
    if (tensor_count < MAX_TASK_TENSORS) {
      __builtin_memcpy(static_cast<void *>(&tensors[tensor_count]), &t, sizeof t);
      tags[tensor_count] = tag;
    }
    ++tensor_count;
    return *this;
  }
  Task &add(const TensorView &t, TensorArgType tag) {
    if (tensor_count < MAX_TASK_TENSORS) {
      tensors[tensor_count] = t;
      tags[tensor_count] = tag;
      if (!t.is_dense())
        strided |= 1U << tensor_count;
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

namespace detail {
template <class T> inline constexpr DataType DATA_TYPE_OF = static_cast<DataType>(DATA_TYPE_COUNT);
template <> inline constexpr DataType DATA_TYPE_OF<float> = DataType::FLOAT32;
template <> inline constexpr DataType DATA_TYPE_OF<int8_t> = DataType::INT8;
template <> inline constexpr DataType DATA_TYPE_OF<int16_t> = DataType::INT16;
template <> inline constexpr DataType DATA_TYPE_OF<int32_t> = DataType::INT32;
template <> inline constexpr DataType DATA_TYPE_OF<int64_t> = DataType::INT64;
template <> inline constexpr DataType DATA_TYPE_OF<uint8_t> = DataType::UINT8;
template <> inline constexpr DataType DATA_TYPE_OF<uint16_t> = DataType::UINT16;
template <> inline constexpr DataType DATA_TYPE_OF<uint32_t> = DataType::UINT32;
template <> inline constexpr DataType DATA_TYPE_OF<uint64_t> = DataType::UINT64;
template <> inline constexpr DataType DATA_TYPE_OF<bool> = DataType::BOOL;
} // namespace detail

// The graph of one run, as its orchestration sees it.
struct Graph {
  // A tensor in a HeapRing of the chip, valid until the innermost open Scope ends, or for the run where none is open;
  // its bytes are undefined. Waits while the ring is full and tasks that may free it still run; otherwise the run ends
  // with RingFull.
  ContinuousTensor alloc(DataType dtype, std::initializer_list<int64_t> shape) {
    return services->alloc(*this, dtype, shape.begin(), static_cast<uint32_t>(shape.size()));
  }
  // Hands the task over. Returns at once, except while the ring of task slots is full.
  TaskHandle submit(const Task &task) { return services->submit(*this, task); }
  // One element of a tensor, as soon as the tasks are through that were submitted to write it. T is the tensor's type.
  template <class T> T read(const TensorView &t, std::initializer_list<int64_t> index) {
    static_assert(detail::DATA_TYPE_OF<T> != static_cast<DataType>(DATA_TYPE_COUNT), "no DataType is such a T");
    T value;
    services->read(*this, t, index.begin(), static_cast<uint32_t>(index.size()), detail::DATA_TYPE_OF<T>, &value);
    return value;
  }
  // Sets one element of a tensor, as soon as the tasks are through that were submitted to read or write it.
  template <class T> void write(const TensorView &t, std::initializer_list<int64_t> index, T value) {
    static_assert(detail::DATA_TYPE_OF<T> != static_cast<DataType>(DATA_TYPE_COUNT), "no DataType is such a T");
    services->write(*this, t, index.begin(), static_cast<uint32_t>(index.size()), detail::DATA_TYPE_OF<T>, &value);
  }
  // Ends the orchestration and with it the run, with the text "where: message" ("message" where `where` is null).
  [[noreturn]] void fail(const char *where, const char *format, ...) __attribute__((format(printf, 3, 4))) {
    va_list values;
    va_start(values, format);
    services->fail(*this, where, format, values); // throws
    __builtin_unreachable();
  }

  struct Services {
    ContinuousTensor (*alloc)(Graph &graph, DataType dtype, const int64_t *shape, uint32_t ndims);
    TaskHandle (*submit)(Graph &graph, const Task &task);
    void (*enter_scope)(Graph &graph, bool manual, const char *where);
    void (*leave_scope)(Graph &graph) noexcept;
    void (*read)(Graph &graph, const TensorView &t, const int64_t *index, uint32_t count, DataType type, void *value);
    void (*write)(Graph &graph, const TensorView &t, const int64_t *index, uint32_t count, DataType type,
                  const void *value);
    void (*fail)(Graph &graph, const char *where, const char *format, va_list values);
  };
  const Services *services;
};

// Lifetime bracket for tensors of Graph::alloc: their memory is used again once the scope has ended and the tasks
// submitted with them are through. Tasks may be submitted with them only while the scope is open.
class Scope {
public:
  enum Kind {
    INFERRED, // tasks inside wait for each other by their tags
    MANUAL,   // tasks inside wait for what after() says and nothing else; nobody waits for them by a tag
  };
  // `where` is what messages call it ("model.py:12"); it must live as long as the scope.
  explicit Scope(Graph &graph, Kind kind = INFERRED, const char *where = nullptr) : graph_(graph) {
    graph.services->enter_scope(graph, kind == MANUAL, where);
  }
  ~Scope() {
    if (!left_)
      leave();
  }
  Scope(const Scope &) = delete;
  Scope &operator=(const Scope &) = delete;

  // Ends it early. The run fails when it has ended already.
  void leave() {
    if (left_)
      graph_.fail(nullptr, "a scope was left twice");
    left_ = true;
    graph_.services->leave_scope(graph_);
  }

private:
  Graph &graph_;
  bool left_ = false;
};

using OrchestrationFunction = void (*)(Graph &, TaskArgsView);

// The part of `t` that starts at `offset` and has extents `shape`, without copying: a block, with the strides of `t`.
// Fails the run, naming `where`, when it reaches outside `t`.
inline TensorView block(Graph &graph, const TensorView &t, std::initializer_list<int64_t> shape,
                        std::initializer_list<int64_t> offset, const char *where) {
  if (shape.size() != t.ndims || offset.size() != t.ndims)
    graph.fail(where, "block of a %u-dimensional tensor with %zu extents and %zu offsets", t.ndims, shape.size(),
               offset.size());
  TensorView part = t;
  for (uint32_t i = 0; i < t.ndims; ++i) {
    const int64_t begin = offset.begin()[i], extent = shape.begin()[i], have = t.shapes[i];
    if (begin < 0 || extent < 0 || begin > have || extent > have - begin)
      graph.fail(where, "block out of bounds in dimension %u: offset %lld, extent %lld, the tensor has %lld", i,
                 static_cast<long long>(begin), static_cast<long long>(extent), static_cast<long long>(have));
    part.shapes[i] = static_cast<uint32_t>(extent);
    part.data += static_cast<uint64_t>(begin) * t.strides[i] * itemsize(t.type());
  }
  return part;
}

// The part of `t` that starts at `offset` and has extents `shape`, without copying. It must be contiguous: after the
// first dimension of which more than one index is taken, every dimension is taken whole. Fails the run, naming `where`,
// otherwise and when it reaches outside `t`: block() has no such condition.
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
