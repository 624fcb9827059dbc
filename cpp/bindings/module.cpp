#include "bindings.h"

// After a change of what Python sees: python -m nanobind.stubgen -m simpler_runtime._native
// -o packages/simpler-runtime/src/simpler_runtime/_native.pyi, and ruff format. A test compares names.
NB_MODULE(_native, m) {
  using namespace simpler::python;
  m.doc() = "The chip in C++. Import these names from simpler_runtime.";
  bind_errors(m);
  bind_arguments(m);
  bind_callables(m);
  bind_worker(m);
}
