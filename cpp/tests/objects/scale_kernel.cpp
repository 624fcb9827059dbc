#include "simpler/kernel.h"

// Takes add_kernel's place under the same func_id: c = 10 a + 10 b
extern "C" const char SCALE_MARKER[] = "scale-marker-0";
extern "C" void kernel(simpler::Core &, simpler::TaskArgsView args) {
  const auto *a = args.tensors[0].as<float>(), *b = args.tensors[1].as<float>();
  auto *c = args.tensors[2].as<float>();
  for (uint64_t i = 0; i < element_count(args.tensors[2]); ++i)
    c[i] = 10 * a[i] + 10 * b[i];
}
