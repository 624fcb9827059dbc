// ChipCallable: what a chip can run, in one contiguous position-independent buffer.
//
//     header | kernel entries | signature | strings | pad | orchestration object | pad | kernel object | …
#pragma once

#include "simpler/kernel.h"

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace simpler {

using Bytes = std::span<const std::byte>;

// A kernel on its way into a ChipCallable.
struct KernelSource {
  int32_t func_id; // what the orchestration calls it; unique in its callable
  std::string name;
  CoreType core_type;
  std::vector<std::byte> object; // a shared object
  std::string symbol = "kernel";
};

struct ChipCallableSource {
  std::string name;
  std::vector<std::byte> orchestration; // a shared object
  std::string orchestration_symbol = "orchestrate";
  std::vector<TensorArgType> signature; // one tag for each tensor argument
  int32_t scalar_count = 0;
  std::vector<KernelSource> kernels;
};

// Where things are in the buffer of a callable; the only place that knows.
struct ChipCallableLayout {
  size_t header_nbytes; // everything before the first object
  size_t total_nbytes;
  uint64_t content_hash; // FNV-1a over everything after the hash itself
};

// Immutable; copies share the buffer.
class ChipCallable {
public:
  struct Kernel {
    int32_t func_id;
    CoreType core_type;
    std::string_view name;
    std::string_view symbol;
    Bytes object;
  };

  // Throws CallableError: no name, an empty object, a func_id used twice, a negative count.
  static ChipCallable build(const ChipCallableSource &source);
  // Copies and validates: truncated, corrupted or foreign bytes throw CallableError.
  static ChipCallable from_bytes(Bytes bytes);

  std::string_view name() const { return name_; }
  std::string_view orchestration_symbol() const { return symbol_; }
  Bytes orchestration() const { return orchestration_; }
  std::span<const TensorArgType> signature() const { return signature_; }
  int32_t scalar_count() const { return scalar_count_; }
  const std::vector<Kernel> &kernels() const { return kernels_; }
  const ChipCallableLayout &layout() const { return layout_; }
  Bytes bytes() const { return {buffer_.get(), layout_.total_nbytes}; }

private:
  ChipCallable(std::shared_ptr<const std::byte[]> buffer, size_t nbytes);

  std::shared_ptr<const std::byte[]> buffer_;
  ChipCallableLayout layout_{};
  std::string_view name_, symbol_;
  Bytes orchestration_;
  std::span<const TensorArgType> signature_;
  int32_t scalar_count_ = 0;
  std::vector<Kernel> kernels_;
};

} // namespace simpler
