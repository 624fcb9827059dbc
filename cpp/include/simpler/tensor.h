// DataType, ContinuousTensor and TensorView: the one definition of how a tensor is described, from Python to a kernel.
//
// Included by kernels, so it stays free of standard headers beyond <cstdint> and <cstddef>.
#pragma once

#include <cstddef>
#include <cstdint>

namespace simpler {

enum class DataType : uint8_t {
  FLOAT32 = 0,
  FLOAT16,
  BFLOAT16,
  INT8,
  INT16,
  INT32,
  INT64,
  UINT8,
  UINT16,
  UINT32,
  UINT64,
  BOOL,
};

inline constexpr uint32_t DATA_TYPE_COUNT = 12;
inline constexpr uint32_t MAX_TENSOR_DIMS = 5;

namespace detail {
struct DataTypeRow {
  const char *name;
  uint32_t itemsize;
};
inline constexpr DataTypeRow DATA_TYPES[DATA_TYPE_COUNT] = {
    {"float32", 4}, {"float16", 2}, {"bfloat16", 2}, {"int8", 1},   {"int16", 2},  {"int32", 4},
    {"int64", 8},   {"uint8", 1},   {"uint16", 2},   {"uint32", 4}, {"uint64", 8}, {"bool", 1},
};
} // namespace detail

// Bytes of one element; 0 for a value that is no DataType.
constexpr uint32_t itemsize(DataType dtype) {
  return static_cast<uint32_t>(dtype) < DATA_TYPE_COUNT ? detail::DATA_TYPES[static_cast<uint32_t>(dtype)].itemsize : 0;
}

// numpy's spelling ("float32", …, "bool", and "bfloat16").
constexpr const char *name_of(DataType dtype) {
  return static_cast<uint32_t>(dtype) < DATA_TYPE_COUNT ? detail::DATA_TYPES[static_cast<uint32_t>(dtype)].name
                                                        : "invalid";
}

// A dense row-major tensor: where it is, its extents, its element type. Plain bytes: it crosses processes by memcpy.
struct ContinuousTensor {
  uint64_t data;                    // address of the first element
  uint32_t shapes[MAX_TENSOR_DIMS]; // extents; entries from ndims on are 0
  uint32_t ndims;                   // 0 (one element) … 5
  uint8_t dtype;                    // a DataType
  uint8_t child_memory;             // 1: data is an address in the chip's own memory
  uint8_t pad[6];                   // always 0

  constexpr DataType type() const { return static_cast<DataType>(dtype); }
  template <class T> T *as() const { return reinterpret_cast<T *>(static_cast<uintptr_t>(data)); }
};

static_assert(sizeof(ContinuousTensor) == 40);
static_assert(offsetof(ContinuousTensor, data) == 0);
static_assert(offsetof(ContinuousTensor, shapes) == 8);
static_assert(offsetof(ContinuousTensor, ndims) == 28);
static_assert(offsetof(ContinuousTensor, dtype) == 32);
static_assert(offsetof(ContinuousTensor, child_memory) == 33);

// True when dtype and ndims are in range and the size in bytes fits 63 bits.
constexpr bool is_valid(const ContinuousTensor &t) {
  if (t.dtype >= DATA_TYPE_COUNT || t.ndims > MAX_TENSOR_DIMS)
    return false;
  uint64_t nbytes = itemsize(t.type());
  bool empty = false;
  for (uint32_t i = 0; i < t.ndims; ++i)
    empty = empty || t.shapes[i] == 0;
  if (empty)
    return true;
  for (uint32_t i = 0; i < t.ndims; ++i)
    if (__builtin_mul_overflow(nbytes, static_cast<uint64_t>(t.shapes[i]), &nbytes) || nbytes >> 63)
      return false;
  return true;
}

// Elements of a valid tensor.
constexpr uint64_t element_count(const ContinuousTensor &t) {
  uint64_t count = 1;
  for (uint32_t i = 0; i < t.ndims; ++i)
    count *= t.shapes[i];
  return count;
}

// Bytes of a valid tensor.
constexpr uint64_t nbytes_of(const ContinuousTensor &t) { return element_count(t) * itemsize(t.type()); }

// A part of a tensor that is not copied: extents, and how far apart the elements of each dimension lie. It stays inside
// the chip; what crosses processes is dense.
struct TensorView {
  uint64_t data; // address of the first element
  uint32_t shapes[MAX_TENSOR_DIMS];
  uint32_t ndims;
  uint8_t dtype;
  uint8_t child_memory;
  uint8_t pad[6];
  uint64_t strides[MAX_TENSOR_DIMS]; // in elements

  TensorView() = default;
  // A dense tensor is a view of itself.
  constexpr TensorView(const ContinuousTensor &t)
      : data(t.data), shapes{}, ndims(t.ndims), dtype(t.dtype), child_memory(t.child_memory), pad{}, strides{} {
    uint64_t stride = 1;
    for (uint32_t i = t.ndims; i-- > 0;) {
      shapes[i] = t.shapes[i];
      strides[i] = stride;
      stride *= t.shapes[i];
    }
  }

  constexpr DataType type() const { return static_cast<DataType>(dtype); }
  template <class T> T *as() const { return reinterpret_cast<T *>(static_cast<uintptr_t>(data)); }

  // True when its elements lie one after another, in row-major order.
  constexpr bool is_dense() const {
    uint64_t stride = 1;
    for (uint32_t i = ndims; i-- > 0;) {
      if (shapes[i] > 1 && strides[i] != stride)
        return false;
      stride *= shapes[i];
    }
    return true;
  }
  // The same without strides: all there is to say about a dense one.
  constexpr ContinuousTensor dense() const {
    return {data, {shapes[0], shapes[1], shapes[2], shapes[3], shapes[4]}, ndims, dtype, child_memory, {}};
  }
};

static_assert(sizeof(TensorView) == 80);
static_assert(offsetof(TensorView, strides) == sizeof(ContinuousTensor));

constexpr uint64_t element_count(const TensorView &t) { return element_count(t.dense()); }

} // namespace simpler
