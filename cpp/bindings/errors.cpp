#include "bindings.h"

#include "simpler/errors.h"

namespace simpler::python {
namespace {

template <class... Args> void raise(const char *name, const Args &...args) {
  const nb::object type = nb::module_::import_("simpler_runtime.errors").attr(name);
  const nb::object error = type(args...);
  PyErr_SetObject(type.ptr(), error.ptr());
}

void translate(const std::exception_ptr &thrown, void *) {
  try {
    std::rethrow_exception(thrown);
  } catch (const KernelError &e) {
    raise("KernelError", e.callable, e.task, e.kernel, e.core, e.message);
  } catch (const RingFull &e) {
    raise("RingFull", e.ring, e.what(), e.scope);
  } catch (const DeviceMemoryError &e) {
    raise("DeviceMemoryError", e.what());
  } catch (const CallableError &e) {
    raise("CallableError", e.what());
  } catch (const CallConfigError &e) {
    raise("CallConfigError", e.what());
  } catch (const PlatformError &e) {
    raise("PlatformError", e.what());
  } catch (const ChipError &e) {
    raise("ChipError", e.what());
  }
}

} // namespace

void bind_errors(nb::module_ &) { nb::register_exception_translator(translate); }

} // namespace simpler::python
