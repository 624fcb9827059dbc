// What the files of the Python module share.
#pragma once

#include "simpler/call_config.h"
#include "simpler/chip_callable.h"
#include "simpler/task_args.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <vector>

namespace simpler::python {

namespace nb = nanobind;

void bind_errors(nb::module_ &m);
void bind_arguments(nb::module_ &m); // DataType … TaskFrame
void bind_callables(nb::module_ &m); // CoreType, Kernel, ChipCallable
void bind_worker(nb::module_ &m);    // Platform, ChipWorker

// A contiguous view of anything with the buffer protocol; the object can't go away or be resized meanwhile.
class Buffer {
public:
  Buffer(nb::handle object, bool writable) {
    if (PyObject_GetBuffer(object.ptr(), &view_, writable ? PyBUF_WRITABLE : PyBUF_SIMPLE) != 0)
      throw nb::python_error();
  }
  ~Buffer() { PyBuffer_Release(&view_); }
  Buffer(const Buffer &) = delete;
  Buffer &operator=(const Buffer &) = delete;

  std::byte *data() const { return static_cast<std::byte *>(view_.buf); }
  size_t nbytes() const { return static_cast<size_t>(view_.len); }

private:
  Py_buffer view_{};
};

// The builder behind simpler_runtime.TaskArgs.
struct TaskArgs {
  std::vector<ContinuousTensor> tensors;
  std::vector<TensorArgType> tags;
  std::vector<uint64_t> scalars;

  TaskArgsView view() const {
    return {static_cast<int32_t>(tensors.size()), static_cast<int32_t>(scalars.size()), tensors.data(), scalars.data()};
  }
};

} // namespace simpler::python
