#include "bindings.h"

NB_MODULE(_native, m) {
  using namespace simpler::python;
  m.doc() = "The chip in C++. Import these names from simpler_runtime.";
  bind_errors(m);
  bind_arguments(m);
  bind_callables(m);
  bind_worker(m);
}
