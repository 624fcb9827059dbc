// One logical core: what a kernel sees of it, and its local memory.
#pragma once

#include "simpler/kernel.h"

#include <memory>
#include <string>
#include <vector>

namespace simpler {

// Thrown by Core::fail.
struct KernelFailure {
  std::string message;
};

// "where: formatted text", as Core::fail and Graph::fail promise.
std::string failure_text(const char *where, const char *format, va_list values);

class AiCore : public Core {
public:
  // `memory_nbytes` 0: unlimited.
  AiCore(uint32_t id, CoreType core_type, uint64_t memory_nbytes);

  // Runs one kernel to its end. Gives what it failed with, nullptr when it did not.
  std::unique_ptr<std::string> run(KernelFunction kernel, const TaskArgsView &args);

private:
  struct Chunk {
    std::unique_ptr<std::byte[]> owner;
    std::byte *begin; // 64-byte aligned
    size_t nbytes;
  };
  struct Block {
    std::byte *begin;
    size_t nbytes;
    size_t chunk; // in which chunk it is
    size_t end;   // how far that chunk is used, with it
  };

  void *allocate(size_t nbytes);
  void free(void *p) noexcept;
  Chunk &chunk_for(size_t nbytes, size_t &index, size_t &used);
  void reset();

  static const Services SERVICES;
  uint64_t limit_;
  std::vector<Chunk> chunks_;    // one, where memory is limited; made when first needed
  std::vector<Block> blocks_;    // a stack
  const char *misuse_ = nullptr; // what a noexcept call could not report at once
};

} // namespace simpler
