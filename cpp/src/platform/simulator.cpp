#include "platform/simulator.h"

#include "aicpu/tensormap_and_ringbuffer.h"
#include "host/host_build_graph.h"
#include "platform/object_stamp.h"
#include "simpler/errors.h"

#include <algorithm>
#include <cstring>

namespace simpler {
namespace {

class SimulatedCallable final : public LoadedCallable {
public:
  SimulatedCallable(ChipCallable callable, SharedObjectStore &store, std::atomic<uint64_t> &orchestrations)
      : callable_(std::move(callable)) {
    const std::string name(callable_.name());
    check_stamp(callable_.orchestration(), name);
    for (const ChipCallable::Kernel &kernel : callable_.kernels())
      check_stamp(kernel.object, name + "." + std::string(kernel.name));
    objects_.push_back(store.load(callable_.orchestration(), name, &orchestrations));
    orchestrate =
        reinterpret_cast<OrchestrationFunction>(objects_.back()->symbol(callable_.orchestration_symbol(), name));
    std::vector<const ChipCallable::Kernel *> sorted;
    for (const ChipCallable::Kernel &kernel : callable_.kernels())
      sorted.push_back(&kernel);
    std::sort(sorted.begin(), sorted.end(), [](const auto *a, const auto *b) { return a->func_id < b->func_id; });
    for (const ChipCallable::Kernel *kernel : sorted) {
      const std::string kernel_name = name + "." + std::string(kernel->name);
      objects_.push_back(store.load(kernel->object, kernel_name));
      functions.push_back(reinterpret_cast<KernelFunction>(objects_.back()->symbol(kernel->symbol, kernel_name)));
      kernels.push_back({kernel->func_id, kernel->core_type, kernel->name});
    }
  }

  const ChipCallable &callable() const override { return callable_; }

  OrchestrationFunction orchestrate;
  // Of this callable alone, by func_id: others may use the same func_id for other kernels.
  std::vector<KernelInfo> kernels;
  std::vector<KernelFunction> functions;
  std::unique_ptr<KeptGraph> kept;

private:
  ChipCallable callable_;
  std::vector<std::shared_ptr<SharedObject>> objects_;
};

void *as_pointer(uint64_t address) { return reinterpret_cast<void *>(static_cast<uintptr_t>(address)); }

} // namespace

Simulator::Simulator(const PlatformInfo &info, bool host_builds, uint32_t threads, const RingSizes &rings)
    : info_(info), host_builds_(host_builds), rings_(rings), memory_(info), cores_(info),
      scheduler_(info, cores_, threads, rings.task_slots) {
  if (host_builds)
    builder_ = std::make_unique<HostBuildGraph>(memory_, scheduler_, rings.heap_nbytes);
  else
    builder_ = std::make_unique<TensormapAndRingbuffer>(memory_, scheduler_, rings.heap_nbytes);
}

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
  auto loaded = std::make_unique<SimulatedCallable>(callable, objects_, orchestrations_loaded_);
  scheduler_.prewarm();
  return loaded;
}

void Simulator::run(LoadedCallable &callable, const TaskArgsView &args, const CallConfig &config,
                    const InterruptCheck &interrupted) {
  check(config);
  auto &loaded = static_cast<SimulatedCallable &>(callable);
  const std::string_view name = loaded.callable().name();
  const uint32_t clusters =
      config.clusters == 0 ? info_.clusters : std::min(static_cast<uint32_t>(config.clusters), info_.clusters);
  const auto blocks = static_cast<uint32_t>(config.block_dim);
  cores_.use(loaded.functions.data());
  scheduler_.begin({.callable = name,
                    .kernels = loaded.kernels,
                    .clusters = clusters,
                    .task_slots = config.task_ring_slots != 0 ? config.task_ring_slots : scheduler_.task_slots(),
                    .interrupted = interrupted ? &interrupted : nullptr});
  builder_->run({.callable = name,
                 .symbol = loaded.callable().orchestration_symbol(),
                 .orchestrate = loaded.orchestrate,
                 .kernels = loaded.kernels,
                 .args = args,
                 .heap_nbytes = config.heap_ring_nbytes != 0 ? config.heap_ring_nbytes : rings_.heap_nbytes,
                 .block_num = {blocks != 0 ? blocks : clusters * AIC_PER_CLUSTER,
                               blocks != 0 ? blocks : clusters * AIV_PER_CLUSTER},
                 .kept = &loaded.kept});
}

void Simulator::check(const CallConfig &config) const {
  const auto refuse = [&](const std::string &field, int64_t value, const std::string &limit) {
    throw CallConfigError("CallConfig." + field + " is " + std::to_string(value) + ", but platform '" + info_.name +
                          "' has " + limit);
  };
  if (config.aicpu_thread_num < 1 || static_cast<uint32_t>(config.aicpu_thread_num) > info_.aicpu_threads)
    refuse("aicpu_thread_num", config.aicpu_thread_num,
           "1 to " + std::to_string(info_.aicpu_threads) + " AICPU threads");
  if (config.block_dim < 0)
    refuse("block_dim", config.block_dim, "launches of 1 block or more (0: one for each core in use)");
  if (config.clusters < 0 || (info_.limited_clusters && static_cast<uint32_t>(config.clusters) > info_.clusters))
    refuse("clusters", config.clusters, std::to_string(info_.clusters) + " clusters (0: all of them)");
  if (config.heap_ring_nbytes > rings_.heap_nbytes)
    refuse("heap_ring_nbytes", static_cast<int64_t>(config.heap_ring_nbytes),
           "heap rings of " + std::to_string(rings_.heap_nbytes) + " bytes on this chip: open it with larger ones");
  if (config.task_ring_slots > scheduler_.task_slots())
    refuse("task_ring_slots", config.task_ring_slots,
           std::to_string(scheduler_.task_slots()) + " task slots on this chip: open it with more");
  // Better refused than ignored.
  for (const auto &[name, value] : {std::pair{"enable_l2_swimlane", config.enable_l2_swimlane},
                                    {"enable_dump_tensor", config.enable_dump_tensor},
                                    {"enable_pmu", config.enable_pmu},
                                    {"enable_dep_gen", config.enable_dep_gen},
                                    {"enable_scope_stats", config.enable_scope_stats}})
    if (value != 0)
      throw CallConfigError(std::string("CallConfig.") + name + " is " + std::to_string(value) + ", but platform '" +
                            info_.name + "' does not record that: leave it 0");
}

} // namespace simpler
