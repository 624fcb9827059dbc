#include "simpler/kernel.h"

// c = a + b, for as many elements as a has
extern "C" void kernel(simpler::Core &, simpler::TaskArgsView args) {
  const auto *a = args.tensors[0].as<float>(), *b = args.tensors[1].as<float>();
  auto *c = args.tensors[2].as<float>();
  for (uint64_t i = 0; i < element_count(args.tensors[0]); ++i)
    c[i] = a[i] + b[i];
}
