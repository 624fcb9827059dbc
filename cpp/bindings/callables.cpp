#include "bindings.h"

#include "simpler/errors.h"

namespace simpler::python {
namespace {

using namespace nb::literals;

std::vector<std::byte> copy_of(const nb::bytes &bytes) {
  const auto *p = static_cast<const std::byte *>(bytes.data());
  return {p, p + bytes.size()};
}

nb::bytes to_python(Bytes bytes) { return nb::bytes(bytes.data(), bytes.size()); }

} // namespace

void bind_callables(nb::module_ &m) {
  nb::enum_<CoreType>(m, "CoreType", "Kind of core: AIC multiplies matrices, AIV works on vectors.")
      .value("AIC", CoreType::AIC)
      .value("AIV", CoreType::AIV);

  nb::class_<KernelSource>(m, "Kernel", "A compiled kernel on its way into a ChipCallable.")
      .def(
          "__init__",
          [](KernelSource *self, int32_t func_id, std::string name, CoreType core_type, const nb::bytes &object,
             std::string symbol) {
            new (self) KernelSource{func_id, std::move(name), core_type, copy_of(object), std::move(symbol)};
          },
          "func_id"_a, "name"_a, "core_type"_a, "object"_a, "symbol"_a = "kernel",
          "func_id: what the orchestration calls it, unique in its callable. name: for messages. core_type: the cores "
          "it\n"
          "runs on. object: a shared object, as KernelCompiler gives it. symbol: its entry point.")
      .def_ro("func_id", &KernelSource::func_id)
      .def_ro("name", &KernelSource::name)
      .def_ro("core_type", &KernelSource::core_type)
      .def_ro("symbol", &KernelSource::symbol)
      .def_prop_ro("object", [](const KernelSource &self) { return to_python(self.object); })
      .def("__repr__", [](const KernelSource &self) {
        return "Kernel(" + std::to_string(self.func_id) + ", '" + self.name + "', " + name_of(self.core_type) + ")";
      });

  nb::class_<ChipCallable>(m, "ChipCallable",
                           "What a chip can run: an orchestration and its kernels in one position-independent buffer.\n"
                           "Immutable.")
      .def_static(
          "build",
          [](std::string name, const nb::bytes &orchestration, std::string symbol, std::vector<TensorArgType> signature,
             int32_t scalar_count, std::vector<KernelSource> kernels) {
            return ChipCallable::build({std::move(name), copy_of(orchestration), std::move(symbol),
                                        std::move(signature), scalar_count, std::move(kernels)});
          },
          nb::kw_only(), "name"_a, "orchestration"_a, "orchestration_symbol"_a = "orchestrate", "signature"_a,
          "scalar_count"_a = 0, "kernels"_a,
          "name: for messages. orchestration: a shared object with that symbol. signature: one tag for each tensor\n"
          "argument. scalar_count: how many scalar arguments. Raises CallableError for a func_id used twice, an empty\n"
          "object or name.")
      .def_static(
          "from_bytes",
          [](nb::handle buffer) {
            const Buffer from(buffer, false);
            return ChipCallable::from_bytes({from.data(), from.nbytes()});
          },
          "buffer"_a, nb::sig("def from_bytes(buffer: typing_extensions.Buffer) -> ChipCallable"),
          "The callable whose to_bytes() these are. Raises CallableError for truncated, damaged or foreign bytes.")
      .def(
          "to_bytes", [](const ChipCallable &self) { return to_python(self.bytes()); },
          "The whole buffer; equal for equal contents.")
      .def_prop_ro("name", [](const ChipCallable &self) { return std::string(self.name()); })
      .def_prop_ro(
          "signature",
          [](const ChipCallable &self) {
            return std::vector<TensorArgType>(self.signature().begin(), self.signature().end());
          },
          "One tag for each tensor argument.")
      .def_prop_ro("scalar_count", &ChipCallable::scalar_count)
      .def_prop_ro(
          "kernels",
          [](const ChipCallable &self) {
            std::vector<std::string> names;
            for (const ChipCallable::Kernel &kernel : self.kernels())
              names.emplace_back(kernel.name);
            return names;
          },
          "Names of the kernels.")
      .def_prop_ro(
          "header_nbytes", [](const ChipCallable &self) { return self.layout().header_nbytes; },
          "Bytes before the first object.")
      .def_prop_ro(
          "nbytes", [](const ChipCallable &self) { return self.layout().total_nbytes; }, "Bytes of the buffer.")
      .def_prop_ro(
          "content_hash", [](const ChipCallable &self) { return self.layout().content_hash; },
          "64-bit hash of the buffer: no proof of equality.")
      .def("__repr__", [](const ChipCallable &self) {
        return "ChipCallable('" + std::string(self.name()) + "', " + std::to_string(self.kernels().size()) +
               " kernels, " + std::to_string(self.layout().total_nbytes) + " bytes)";
      });
}

} // namespace simpler::python
