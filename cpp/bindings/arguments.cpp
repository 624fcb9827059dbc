#include "bindings.h"

#include "simpler/task_frame.h"

#include <cstring>
#include <limits>
#include <nanobind/operators.h>

namespace simpler::python {
namespace {

using namespace nb::literals;

ContinuousTensor make_tensor(uint64_t data, const nb::sequence &shapes, DataType dtype, bool child_memory) {
  ContinuousTensor t{};
  t.data = data;
  t.dtype = static_cast<uint8_t>(dtype);
  t.child_memory = child_memory ? 1 : 0;
  for (nb::handle extent : shapes) {
    if (t.ndims == MAX_TENSOR_DIMS)
      throw std::invalid_argument("a ContinuousTensor has at most 5 dimensions, got " +
                                  std::to_string(nb::len(shapes)));
    const auto value = nb::cast<int64_t>(nb::steal(PyNumber_Index(extent.ptr())));
    if (value < 0 || value > std::numeric_limits<uint32_t>::max())
      throw std::invalid_argument("extent " + std::to_string(value) + " of dimension " + std::to_string(t.ndims) +
                                  " is not within 0 and 2**32 - 1");
    t.shapes[t.ndims++] = static_cast<uint32_t>(value);
  }
  if (!is_valid(t))
    throw std::invalid_argument("a tensor of more than 2**63 - 1 bytes");
  return t;
}

nb::tuple shapes_of(const ContinuousTensor &t) {
  nb::list extents;
  for (uint32_t i = 0; i < t.ndims; ++i)
    extents.append(t.shapes[i]);
  return nb::tuple(extents);
}

std::string repr(const ContinuousTensor &t) {
  std::string shape;
  for (uint32_t i = 0; i < t.ndims; ++i)
    shape += (i != 0 ? ", " : "") + std::to_string(t.shapes[i]);
  char address[32];
  std::snprintf(address, sizeof address, "0x%llx", static_cast<unsigned long long>(t.data));
  return std::string("ContinuousTensor(") + address + ", [" + shape + "], " + name_of(t.type()) +
         (t.child_memory != 0 ? ", child_memory)" : ")");
}

DataType data_type_of(const std::string &name) {
  for (uint32_t i = 0; i < DATA_TYPE_COUNT; ++i)
    if (name == detail::DATA_TYPES[i].name)
      return static_cast<DataType>(i);
  std::string known;
  for (const auto &row : detail::DATA_TYPES)
    known += std::string(known.empty() ? "" : ", ") + row.name;
  throw std::invalid_argument("unknown dtype '" + name + "'; known dtypes: " + known);
}

void bind_tensors(nb::module_ &m) {
  nb::enum_<DataType>(m, "DataType", "Element type of a tensor.")
      .value("FLOAT32", DataType::FLOAT32)
      .value("FLOAT16", DataType::FLOAT16)
      .value("BFLOAT16", DataType::BFLOAT16)
      .value("INT8", DataType::INT8)
      .value("INT16", DataType::INT16)
      .value("INT32", DataType::INT32)
      .value("INT64", DataType::INT64)
      .value("UINT8", DataType::UINT8)
      .value("UINT16", DataType::UINT16)
      .value("UINT32", DataType::UINT32)
      .value("UINT64", DataType::UINT64)
      .value("BOOL", DataType::BOOL)
      .def_prop_ro(
          "itemsize", [](DataType dtype) { return itemsize(dtype); }, "Bytes of one element.")
      .def_prop_ro(
          "numpy",
          [](DataType dtype) { return dtype == DataType::BFLOAT16 ? nb::none() : nb::object(nb::str(name_of(dtype))); },
          nb::sig("def numpy(self) -> str | None"), "Name of the numpy dtype; None for bfloat16, which numpy lacks.")
      .def_static("of", data_type_of, "name"_a,
                  "The member for a name like \"float32\" or \"bfloat16\". Raises ValueError for an unknown one.");

  nb::enum_<TensorArgType>(m, "TensorArgType", "How a task uses a tensor argument.")
      .value("IN", TensorArgType::IN, "read")
      .value("OUT", TensorArgType::OUT, "written, perhaps in part: the rest keeps its bytes")
      .value("INOUT", TensorArgType::INOUT, "read and written")
      .value("OUTPUT_EXISTING", TensorArgType::OUTPUT_EXISTING, "written, in a buffer that exists already")
      .value("NO_DEP", TensorArgType::NO_DEP, "used, but makes no dependency and waits for none");
  const nb::object tags = m.attr("TensorArgType");
  for (const auto &[alias, name] : {std::pair{"INPUT", "IN"}, std::pair{"OUTPUT", "OUT"}}) {
    tags.attr(alias) = tags.attr(name);
    tags.attr("_member_map_")[alias] = tags.attr(name); // what makes it an alias to Python's enum
  }
  for (const char *name : {"IN", "OUT", "INOUT", "OUTPUT_EXISTING", "NO_DEP"})
    m.attr(name) = tags.attr(name);

  nb::class_<ContinuousTensor> tensor(m, "ContinuousTensor",
                                      "A dense row-major tensor: where it is, its extents, its dtype. Owns no memory.");
  tensor.def_static(
      "make", make_tensor, "data"_a, "shapes"_a, "dtype"_a, "child_memory"_a = false,
      nb::sig("def make(data: int, shapes: collections.abc.Sequence[int], dtype: DataType, "
              "child_memory: bool = False) -> ContinuousTensor"),
      "data: address of the first element. shapes: at most 5 extents. child_memory: data is an address in\n"
      "the chip's own memory. Raises ValueError for extents that can't be.");
  tensor.def_ro("data", &ContinuousTensor::data, "Address of the first element.")
      .def_prop_ro("shapes", shapes_of, nb::sig("def shapes(self) -> tuple[int, ...]"), "Extents.")
      .def_ro("ndims", &ContinuousTensor::ndims)
      .def_prop_ro("dtype", &ContinuousTensor::type)
      .def_prop_ro(
          "child_memory", [](const ContinuousTensor &t) { return t.child_memory != 0; },
          "data is an address in the chip's own memory.")
      .def_prop_ro("nbytes", nbytes_of, "Bytes of all elements.")
      .def(
          "__eq__",
          [](const ContinuousTensor &a, nb::handle b) {
            return nb::isinstance<ContinuousTensor>(b) &&
                   std::memcmp(&a, &nb::cast<const ContinuousTensor &>(b), sizeof a) == 0;
          },
          nb::sig("def __eq__(self, other: object, /) -> bool"))
      .def("__hash__",
           [](const ContinuousTensor &t) {
             return std::hash<std::string_view>{}({reinterpret_cast<const char *>(&t), sizeof t});
           })
      .def("__repr__", repr);
  tensor.attr("NBYTES") = sizeof(ContinuousTensor);
}

// Integers and bools as 64 bits, floats as the bits of a double; numpy's and torch's scalars through item().
uint64_t scalar_bits(nb::handle value) {
  if (PyFloat_Check(value.ptr())) {
    const double number = PyFloat_AsDouble(value.ptr());
    uint64_t bits;
    std::memcpy(&bits, &number, sizeof bits);
    return bits;
  }
  if (PyIndex_Check(value.ptr())) {
    const nb::object index = nb::steal(PyNumber_Index(value.ptr()));
    if (!index.is_valid())
      throw nb::python_error();
    int64_t negative;
    if (nb::try_cast(index, negative))
      return static_cast<uint64_t>(negative);
    uint64_t positive;
    if (nb::try_cast(index, positive))
      return positive;
    throw std::invalid_argument("scalar " + nb::cast<std::string>(nb::str(index)) + " does not fit 64 bits");
  }
  if (nb::hasattr(value, "item"))
    return scalar_bits(value.attr("item")());
  throw nb::type_error("a scalar argument is an int, a float or a bool");
}

size_t checked(const TaskArgs &, int64_t i, size_t count, const char *what) {
  if (i < 0 || static_cast<size_t>(i) >= count)
    throw nb::index_error(("there are " + std::to_string(count) + " " + what + ", no " + std::to_string(i)).c_str());
  return static_cast<size_t>(i);
}

// The blob is copied first: it may lie at any address, and in memory that others write to.
TaskArgs read_blob_at(const void *blob, size_t nbytes) {
  std::vector<uint64_t> copy((nbytes + 7) / 8);
  std::memcpy(copy.data(), blob, nbytes);
  TaskArgsView view;
  if (const char *what = read_blob(copy.data(), nbytes, view))
    throw std::invalid_argument("the argument blob (" + std::to_string(nbytes) + " bytes) is damaged: it has " + what);
  TaskArgs args;
  args.tensors.assign(view.tensors, view.tensors + view.tensor_count);
  args.tags.assign(args.tensors.size(), TensorArgType::IN);
  args.scalars.assign(view.scalars, view.scalars + view.scalar_count);
  return args;
}

TaskArgs read_blob_from(nb::handle buffer, size_t nbytes) {
  if (PyLong_Check(buffer.ptr()))
    return read_blob_at(reinterpret_cast<const void *>(nb::cast<uintptr_t>(buffer)), nbytes);
  const Buffer view(buffer, false);
  if (nbytes > view.nbytes())
    throw std::invalid_argument("a blob of " + std::to_string(nbytes) + " bytes in a buffer of " +
                                std::to_string(view.nbytes()));
  return read_blob_at(view.data(), nbytes);
}

void check_room(size_t need, size_t have, const char *what) {
  if (need > have)
    throw std::invalid_argument(std::string("the ") + what + " takes " + std::to_string(need) +
                                " bytes, the buffer has " + std::to_string(have));
}

void bind_task_args(nb::module_ &m) {
  nb::class_<TaskArgs>(m, "TaskArgs", "Tensors with tags, and 64-bit scalars: the arguments of one task.")
      .def(nb::init<>())
      .def(
          "add_tensor",
          [](TaskArgs &self, const ContinuousTensor &t, TensorArgType tag) -> TaskArgs & {
            self.tensors.push_back(t);
            self.tags.push_back(tag);
            return self;
          },
          "tensor"_a, "tag"_a = TensorArgType::IN, nb::rv_policy::none, "Appends a tensor; gives self.")
      .def(
          "add_scalar",
          [](TaskArgs &self, nb::handle value) -> TaskArgs & {
            self.scalars.push_back(scalar_bits(value));
            return self;
          },
          "value"_a, nb::rv_policy::none, nb::sig("def add_scalar(self, value: int | float | bool) -> TaskArgs"),
          "Appends a scalar; gives self. A float is stored as the bits of a double. Raises ValueError for an int "
          "beyond\n"
          "64 bits.")
      .def_prop_ro("tensor_count", [](const TaskArgs &self) { return self.tensors.size(); })
      .def_prop_ro("scalar_count", [](const TaskArgs &self) { return self.scalars.size(); })
      .def(
          "tensor",
          [](const TaskArgs &self, int64_t i) {
            return self.tensors[checked(self, i, self.tensors.size(), "tensors")];
          },
          "i"_a, "Tensor i. Raises IndexError.")
      .def(
          "tag",
          [](const TaskArgs &self, int64_t i) { return self.tags[checked(self, i, self.tags.size(), "tensors")]; },
          "i"_a, "Tag of tensor i; IN for arguments read from a blob, which carries none.")
      .def(
          "scalar",
          [](const TaskArgs &self, int64_t i) {
            return static_cast<int64_t>(self.scalars[checked(self, i, self.scalars.size(), "scalars")]);
          },
          "i"_a, "Scalar i as a signed 64-bit integer.")
      .def(
          "scalar_float",
          [](const TaskArgs &self, int64_t i) {
            double number;
            std::memcpy(&number, &self.scalars[checked(self, i, self.scalars.size(), "scalars")], sizeof number);
            return number;
          },
          "i"_a, "Scalar i, which was added as a float.")
      .def_prop_ro(
          "blob_nbytes",
          [](const TaskArgs &self) { return blob_nbytes(self.view().tensor_count, self.view().scalar_count); },
          "Bytes that write_blob writes.")
      .def(
          "write_blob",
          [](const TaskArgs &self, nb::handle buffer, size_t offset) {
            const Buffer to(buffer, true);
            const TaskArgsView view = self.view();
            check_room(blob_nbytes(view.tensor_count, view.scalar_count), to.nbytes() - std::min(offset, to.nbytes()),
                       "argument blob");
            return write_blob(view, to.data() + offset);
          },
          "buffer"_a, "offset"_a = 0,
          nb::sig("def write_blob(self, buffer: typing_extensions.Buffer, offset: int = 0) -> int"),
          "Writes the arguments without their tags into a writable buffer; gives the bytes written. Raises ValueError\n"
          "when they don't fit.")
      .def_static(
          "read_blob", read_blob_from, "buffer"_a, "nbytes"_a,
          nb::sig("def read_blob(buffer: typing_extensions.Buffer | int, nbytes: int) -> TaskArgs"),
          "Copies the arguments out of a blob in a buffer, or at an address. Raises ValueError for a damaged one.");
}

const std::pair<const char *, int32_t CallConfig::*> CONFIG_FIELDS[] = {
    {"block_dim", &CallConfig::block_dim},
    {"aicpu_thread_num", &CallConfig::aicpu_thread_num},
    {"enable_l2_swimlane", &CallConfig::enable_l2_swimlane},
    {"enable_dump_tensor", &CallConfig::enable_dump_tensor},
    {"enable_pmu", &CallConfig::enable_pmu},
    {"enable_dep_gen", &CallConfig::enable_dep_gen},
    {"enable_scope_stats", &CallConfig::enable_scope_stats},
    {"clusters", &CallConfig::clusters},
};

void set_output_prefix(CallConfig &config, const std::string &prefix) {
  if (prefix.size() >= sizeof config.output_prefix)
    throw std::invalid_argument("output_prefix has " + std::to_string(prefix.size()) + " bytes; at most " +
                                std::to_string(sizeof config.output_prefix - 1) + " are possible");
  if (prefix.find('\0') != std::string::npos)
    throw std::invalid_argument("output_prefix has a zero byte in it");
  std::memset(config.output_prefix, 0, sizeof config.output_prefix);
  std::memcpy(config.output_prefix, prefix.data(), prefix.size());
}

std::string repr(const CallConfig &config) {
  const CallConfig defaults;
  std::string text;
  for (const auto &[name, field] : CONFIG_FIELDS)
    if (config.*field != defaults.*field)
      text += (text.empty() ? "" : ", ") + std::string(name) + "=" + std::to_string(config.*field);
  for (const auto &[name, value] : {std::pair<const char *, uint64_t>{"heap_ring_nbytes", config.heap_ring_nbytes},
                                    {"task_ring_slots", config.task_ring_slots}})
    if (value != 0)
      text += (text.empty() ? "" : ", ") + std::string(name) + "=" + std::to_string(value);
  if (config.output_prefix[0] != 0)
    text += (text.empty() ? "" : ", ") + std::string("output_prefix='") + config.output_prefix + "'";
  return "CallConfig(" + text + ")";
}

void bind_call_config(nb::module_ &m) {
  nb::class_<CallConfig> config(m, "CallConfig", "Execution options of one call, copied by value to every level.");
  config.def(
      "__init__",
      [](CallConfig *self, int32_t block_dim, int32_t aicpu_thread_num, int32_t enable_l2_swimlane,
         int32_t enable_dump_tensor, int32_t enable_pmu, int32_t enable_dep_gen, int32_t enable_scope_stats,
         const std::string &output_prefix, int32_t clusters, uint64_t heap_ring_nbytes, uint32_t task_ring_slots) {
        CallConfig made{block_dim,  aicpu_thread_num, enable_l2_swimlane, enable_dump_tensor,
                        enable_pmu, enable_dep_gen,   enable_scope_stats, {},
                        clusters,   heap_ring_nbytes, task_ring_slots};
        set_output_prefix(made, output_prefix);
        new (self) CallConfig(made);
      },
      nb::kw_only(), "block_dim"_a = 0, "aicpu_thread_num"_a = 3, "enable_l2_swimlane"_a = 0,
      "enable_dump_tensor"_a = 0, "enable_pmu"_a = 0, "enable_dep_gen"_a = 0, "enable_scope_stats"_a = 0,
      "output_prefix"_a = "", "clusters"_a = 0, "heap_ring_nbytes"_a = 0, "task_ring_slots"_a = 0,
      "block_dim: blocks of an SPMD launch that names no number; 0: one for each core of its type in use.\n"
      "clusters: how many the run may use, each one AIC and two AIV cores; 0: all of the chip. aicpu_thread_num: "
      "AICPU\n"
      "threads, of those that the platform has. heap_ring_nbytes, task_ring_slots: of this run, at most those that "
      "the\n"
      "chip was opened with; 0: those. The rest is off when 0. Raises ValueError for an output_prefix of more than "
      "1023\n"
      "bytes.");
  for (const auto &[name, field] : CONFIG_FIELDS)
    config.def_rw(name, field);
  config.def_rw("heap_ring_nbytes", &CallConfig::heap_ring_nbytes)
      .def_rw("task_ring_slots", &CallConfig::task_ring_slots)
      .def_prop_rw(
          "output_prefix", [](const CallConfig &self) { return std::string(self.output_prefix); }, set_output_prefix)
      .def(
          "__eq__",
          [](const CallConfig &a, nb::handle b) {
            return nb::isinstance<CallConfig>(b) && std::memcmp(&a, &nb::cast<const CallConfig &>(b), sizeof a) == 0;
          },
          nb::sig("def __eq__(self, other: object, /) -> bool"))
      .def("__repr__", [](const CallConfig &self) { return repr(self); });
}

// A frame that was read: its header copied, its arguments still in the buffer.
struct TaskFrame {
  TaskFrameHeader header;
  uint64_t args_address;
  nb::object buffer;
};

TaskFrame read_task(const nb::object &buffer) {
  const Buffer from(buffer, false);
  TaskFrame frame{{}, reinterpret_cast<uint64_t>(from.data() + TASK_FRAME_ARGS_OFFSET), buffer};
  if (const char *what = read_task_frame(from.data(), from.nbytes(), frame.header))
    throw std::invalid_argument("the task frame (" + std::to_string(from.nbytes()) + " bytes) is damaged: " + what);
  return frame;
}

size_t write_task(nb::handle buffer, const nb::bytes &digest, const CallConfig &config, const TaskArgs &args) {
  if (digest.size() != DIGEST_NBYTES)
    throw std::invalid_argument("a digest has 32 bytes, got " + std::to_string(digest.size()));
  const Buffer to(buffer, true);
  const size_t need = task_frame_nbytes(args.view());
  check_room(need, to.nbytes(), "task frame");
  write_task_frame(static_cast<const uint8_t *>(digest.data()), config, args.view(), to.data());
  return need;
}

void bind_task_frame(nb::module_ &m) {
  nb::class_<TaskFrame>(m, "TaskFrame", "A task frame that was read: whose digest, how, with which arguments.")
      .def_prop_ro(
          "digest", [](const TaskFrame &self) { return nb::bytes(self.header.digest, DIGEST_NBYTES); },
          "The 32 bytes that name the callable.")
      .def_prop_ro("config", [](const TaskFrame &self) { return self.header.config; })
      .def_ro("args_address", &TaskFrame::args_address, "Where the argument blob lies, in the buffer.")
      .def_prop_ro("args_nbytes", [](const TaskFrame &self) { return self.header.args_nbytes; })
      .def(
          "args",
          [](const TaskFrame &self) {
            const Buffer from(self.buffer, false); // raises if the buffer was released meanwhile
            if (reinterpret_cast<uint64_t>(from.data() + TASK_FRAME_ARGS_OFFSET) != self.args_address ||
                from.nbytes() < TASK_FRAME_ARGS_OFFSET + self.header.args_nbytes)
              throw std::invalid_argument("the buffer of this task frame has changed since");
            return read_blob_at(from.data() + TASK_FRAME_ARGS_OFFSET, self.header.args_nbytes);
          },
          "A copy of the arguments. Raises ValueError for damaged ones.");
  m.def(
      "write_task", write_task, "buffer"_a, "digest"_a, "config"_a, "args"_a,
      nb::sig(
          "def write_task(buffer: typing_extensions.Buffer, digest: bytes, config: CallConfig, args: TaskArgs) -> int"),
      "Writes a task frame into a writable buffer; gives the bytes written. Raises ValueError when it does not fit,\n"
      "saying both sizes, and for a digest that has not 32 bytes.");
  m.def("read_task", read_task, "buffer"_a, nb::sig("def read_task(buffer: typing_extensions.Buffer) -> TaskFrame"),
        "Reads a task frame; its arguments stay where they are. Raises ValueError for a damaged one.");
}

} // namespace

void bind_arguments(nb::module_ &m) {
  bind_tensors(m);
  bind_task_args(m);
  bind_call_config(m);
  bind_task_frame(m);
}

} // namespace simpler::python
