#include "simpler/kernel.h"

#include <atomic>

// Sets the first of two flags in host memory, whose address is a scalar, and waits for the second.
extern "C" void kernel(simpler::Core &, simpler::TaskArgsView args) {
  auto *flags = reinterpret_cast<std::atomic<bool> *>(args.scalars[0]);
  flags[0] = true;
  while (!flags[1]) {
  }
}
