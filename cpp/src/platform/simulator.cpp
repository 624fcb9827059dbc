#include "platform/simulator.h"

#include "simpler/errors.h"

#include <algorithm>
#include <cstring>

namespace simpler {
namespace {

class SimulatedCallable final : public LoadedCallable {
public:
  SimulatedCallable(ChipCallable callable, SharedObjectStore &store, uint64_t &orchestrations)
      : callable_(std::move(callable)) {
    const std::string name(callable_.name());
    objects_.push_back(store.load(callable_.orchestration(), name, &orchestrations));
    orchestrate =
        reinterpret_cast<OrchestrationFunction>(objects_.back()->symbol(callable_.orchestration_symbol(), name));
    for (const ChipCallable::Kernel &kernel : callable_.kernels()) {
      const std::string kernel_name = name + "." + std::string(kernel.name);
      objects_.push_back(store.load(kernel.object, kernel_name));
      auto *function = reinterpret_cast<KernelFunction>(objects_.back()->symbol(kernel.symbol, kernel_name));
      kernels.push_back({kernel.func_id, kernel.core_type, function, kernel.name});
    }
    std::sort(kernels.begin(), kernels.end(), [](const auto &a, const auto &b) { return a.func_id < b.func_id; });
  }

  const ChipCallable &callable() const override { return callable_; }

  OrchestrationFunction orchestrate;
  std::vector<KernelEntry> kernels; // of this callable alone: others may use the same func_id for other kernels

private:
  ChipCallable callable_;
  std::vector<std::shared_ptr<SharedObject>> objects_;
};

void *as_pointer(uint64_t address) { return reinterpret_cast<void *>(static_cast<uintptr_t>(address)); }

} // namespace

Simulator::Simulator(const PlatformInfo &info, uint32_t threads, const RingSizes &rings)
    : info_(info), memory_(info), scheduler_(info, threads, rings.task_slots),
      graph_builder_(memory_, scheduler_, rings.heap_nbytes) {}

void Simulator::copy_to_device(uint64_t to, const void *from, uint64_t nbytes) {
  check_range(to, nbytes);
  if (nbytes != 0)
    std::memmove(as_pointer(to), from, nbytes);
}

void Simulator::copy_to_host(void *to, uint64_t from, uint64_t nbytes) {
  check_range(from, nbytes);
  if (nbytes != 0)
    std::memmove(to, as_pointer(from), nbytes);
}

void Simulator::check_range(uint64_t address, uint64_t nbytes) const {
  if (!memory_.contains(address, nbytes))
    throw DeviceMemoryError(describe_range(address, nbytes) + " are not inside one live allocation of device memory");
}

std::unique_ptr<LoadedCallable> Simulator::load(const ChipCallable &callable) {
  return std::make_unique<SimulatedCallable>(callable, objects_, aicpu_dlopen_count_);
}

void Simulator::run(LoadedCallable &callable, const TaskArgsView &args, std::span<const DeviceRange> ranges,
                    const CallConfig &config, const InterruptCheck &interrupted) {
  const auto &loaded = static_cast<const SimulatedCallable &>(callable);
  const std::string_view name = loaded.callable().name();
  scheduler_.begin(name, clusters_for(config), interrupted);
  graph_builder_.run(name, loaded.callable().orchestration_symbol(), loaded.orchestrate, loaded.kernels, args, ranges);
}

uint32_t Simulator::clusters_for(const CallConfig &config) const {
  const auto refuse = [&](const std::string &field, int32_t value, const std::string &limit) {
    throw CallConfigError("CallConfig." + field + " is " + std::to_string(value) + ", but platform '" + info_.name +
                          "' has " + limit);
  };
  if (config.aicpu_thread_num < 1 || static_cast<uint32_t>(config.aicpu_thread_num) > info_.aicpu_threads)
    refuse("aicpu_thread_num", config.aicpu_thread_num,
           "1 to " + std::to_string(info_.aicpu_threads) + " AICPU threads");
  if (config.block_dim < 0 || (info_.limited_block_dim && static_cast<uint32_t>(config.block_dim) > info_.clusters))
    refuse("block_dim", config.block_dim, std::to_string(info_.clusters) + " clusters (0: all of them)");
  // Better refused than ignored.
  for (const auto &[name, value] : {std::pair{"enable_l2_swimlane", config.enable_l2_swimlane},
                                    {"enable_dump_tensor", config.enable_dump_tensor},
                                    {"enable_pmu", config.enable_pmu},
                                    {"enable_dep_gen", config.enable_dep_gen},
                                    {"enable_scope_stats", config.enable_scope_stats}})
    if (value != 0)
      throw CallConfigError(std::string("CallConfig.") + name + " is " + std::to_string(value) + ", but platform '" +
                            info_.name + "' does not record that: leave it 0");
  return config.block_dim == 0 ? info_.clusters : std::min(static_cast<uint32_t>(config.block_dim), info_.clusters);
}

} // namespace simpler
