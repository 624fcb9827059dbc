// What a kernel is written in. A kernel is one shared object with one symbol:
//
//     extern "C" void kernel(simpler::Core &core, simpler::TaskArgsView args);
//
// It may be built by any C++20 compiler with this include directory alone: calls into the runtime go through function
// pointers inside Core, so nothing has to be linked. No heavy standard header is included, which keeps compiling fast.
#pragma once

#include "simpler/object_stamp.h"
#include "simpler/task_args.h"

#include <cstdarg>

namespace simpler {

enum class CoreType : uint8_t { AIC = 0, AIV };
inline constexpr uint32_t CORE_TYPE_COUNT = 2;

constexpr const char *name_of(CoreType type) { return type == CoreType::AIC ? "AIC" : "AIV"; }

// The core a kernel runs on, for as long as that one task runs.
struct Core {
  uint32_t core_id;   // of the chip: AIC cores come first, then AIV cores
  uint32_t block_idx; // which block of a launch over block_num cores this is
  uint32_t block_num;
  CoreType type;

  // Core-local memory, 64-byte aligned, last in first out; fails the kernel when exhausted, naming need and capacity.
  void *alloc_local(size_t nbytes) { return services->alloc_local(*this, nbytes); }
  // Gives back the block that was allocated last; anything else fails the kernel. A null pointer is ignored.
  void free_local(void *p) noexcept { services->free_local(*this, p); }
  // Ends this kernel. The run becomes a KernelError with the text "where: message" ("message" where `where` is null).
  [[noreturn]] void fail(const char *where, const char *format, ...) __attribute__((format(printf, 3, 4))) {
    va_list values;
    va_start(values, format);
    services->fail(*this, where, format, values); // throws
    __builtin_unreachable();
  }

  struct Services {
    void *(*alloc_local)(Core &core, size_t nbytes);
    void (*free_local)(Core &core, void *p) noexcept;
    void (*fail)(Core &core, const char *where, const char *format, va_list values);
  };
  const Services *services;
};

using KernelFunction = void (*)(Core &, TaskArgsView);

} // namespace simpler
