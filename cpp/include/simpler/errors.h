// What can go wrong on a chip. Python has a class of the same name for each (simpler_runtime.errors).
#pragma once

#include <stdexcept>
#include <string>

namespace simpler {

struct ChipError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// No such platform or runtime, or this machine can't give what it needs.
struct PlatformError : ChipError {
  using ChipError::ChipError;
};

// A field of CallConfig asks for more than the platform has.
struct CallConfigError : ChipError {
  using ChipError::ChipError;
};

// A callable can't be built, loaded or called.
struct CallableError : ChipError {
  using ChipError::ChipError;
};

// Device memory is exhausted, or a range is not inside one live allocation.
struct DeviceMemoryError : ChipError {
  using ChipError::ChipError;
};

// A ring is full and nothing that runs can free it.
struct RingFull : ChipError {
  RingFull(std::string which, const std::string &text, std::string blamed = {})
      : ChipError(text), ring(std::move(which)), scope(std::move(blamed)) {}
  std::string ring;
  std::string scope; // that keeps the ring full; empty where none does
};

// A kernel failed; or the orchestration did: then task and core are -1.
struct KernelError : ChipError {
  KernelError(std::string callable_name, int64_t task_index, std::string kernel_name, int64_t core_id, std::string text)
      : ChipError((task_index < 0 ? "orchestration '" + kernel_name + "' of callable '" + callable_name + "'"
                                  : "kernel '" + kernel_name + "' (task " + std::to_string(task_index) +
                                        " of callable '" + callable_name + "', core " + std::to_string(core_id) + ")") +
                  " failed: " + text),
        callable(std::move(callable_name)), task(task_index), kernel(std::move(kernel_name)), core(core_id),
        message(std::move(text)) {}
  std::string callable;
  int64_t task;
  std::string kernel;
  int64_t core;
  std::string message;
};

} // namespace simpler
