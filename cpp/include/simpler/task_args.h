// TaskArgsView, the tags of tensor arguments, and the argument blob that carries them between processes.
//
// Blob: i32 T, i32 S, ContinuousTensor[T], u64[S]. No tags: only the one who builds a graph reads those.
#pragma once

#include "simpler/tensor.h"

namespace simpler {

// How a task uses a tensor argument.
enum class TensorArgType : uint8_t {
  IN = 0,          // read
  OUT,             // written, every byte of it
  INOUT,           // read and written
  OUTPUT_EXISTING, // written, in a buffer that exists already: perhaps in part, the rest keeps its bytes
  NO_DEP,          // used, but makes no dependency and waits for none
};
inline constexpr uint32_t TENSOR_ARG_TYPE_COUNT = 5;

constexpr const char *name_of(TensorArgType tag) {
  constexpr const char *NAMES[TENSOR_ARG_TYPE_COUNT] = {"IN", "OUT", "INOUT", "OUTPUT_EXISTING", "NO_DEP"};
  return static_cast<uint32_t>(tag) < TENSOR_ARG_TYPE_COUNT ? NAMES[static_cast<uint32_t>(tag)] : "invalid";
}

constexpr bool reads(TensorArgType tag) { return tag == TensorArgType::IN || tag == TensorArgType::INOUT; }
constexpr bool writes(TensorArgType tag) {
  return tag == TensorArgType::OUT || tag == TensorArgType::INOUT || tag == TensorArgType::OUTPUT_EXISTING;
}

// Arguments in place; owns nothing.
struct TaskArgsView {
  int32_t tensor_count;
  int32_t scalar_count;
  // The dense ones. In place of a strided one stands an empty tensor, so that nobody takes it for dense by mistake.
  const ContinuousTensor *tensors;
  const uint64_t *scalars;
  const TensorView *views = nullptr; // of all tensors; null where all of them are dense

  // Any tensor, dense or strided: what a kernel that honours strides asks for.
  TensorView view(int32_t i) const { return views != nullptr ? views[i] : TensorView(tensors[i]); }
};

static_assert(sizeof(TaskArgsView) == 32);

// Bytes of the blob that carries these arguments.
constexpr size_t blob_nbytes(int32_t tensor_count, int32_t scalar_count) {
  return 8 + sizeof(ContinuousTensor) * static_cast<size_t>(tensor_count) + 8 * static_cast<size_t>(scalar_count);
}

// What is wrong with the arguments themselves; nullptr when nothing is.
constexpr const char *check_args(const TaskArgsView &args) {
  if (args.tensor_count < 0 || args.scalar_count < 0)
    return "a negative number of tensors or scalars";
  for (int32_t i = 0; i < args.tensor_count; ++i)
    if (!is_valid(args.tensors[i]))
      return "a tensor with an unknown dtype, more than 5 dimensions or a size beyond 63 bits";
  return nullptr;
}

// Writes the blob at `to`, which has room for blob_nbytes(...) bytes; gives the bytes written.
inline size_t write_blob(const TaskArgsView &args, void *to) {
  auto *p = static_cast<char *>(to);
  const int32_t counts[2] = {args.tensor_count, args.scalar_count};
  __builtin_memcpy(p, counts, 8);
  p += 8;
  if (args.tensor_count != 0)
    __builtin_memcpy(p, args.tensors, sizeof(ContinuousTensor) * static_cast<size_t>(args.tensor_count));
  p += sizeof(ContinuousTensor) * static_cast<size_t>(args.tensor_count);
  if (args.scalar_count != 0)
    __builtin_memcpy(p, args.scalars, 8 * static_cast<size_t>(args.scalar_count));
  return blob_nbytes(args.tensor_count, args.scalar_count);
}

// Reads a blob in place: `view` points into `blob`. Gives what is wrong with it, nullptr when nothing is.
inline const char *read_blob(const void *blob, size_t nbytes, TaskArgsView &view) {
  if (blob == nullptr)
    return "a null pointer for an address";
  if (reinterpret_cast<uintptr_t>(blob) % alignof(uint64_t) != 0)
    return "an address that is no multiple of 8";
  if (nbytes < 8)
    return "fewer than the 8 bytes of its header";
  int32_t counts[2];
  __builtin_memcpy(counts, blob, 8);
  if (counts[0] < 0 || counts[1] < 0)
    return "a negative number of tensors or scalars";
  if (blob_nbytes(counts[0], counts[1]) > nbytes)
    return "more tensors and scalars than it has bytes for";
  const auto *tensors = reinterpret_cast<const ContinuousTensor *>(static_cast<const char *>(blob) + 8);
  view = {counts[0], counts[1], tensors, reinterpret_cast<const uint64_t *>(tensors + counts[0])};
  return check_args(view);
}

} // namespace simpler
