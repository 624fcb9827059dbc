// A chip simulated on threads of this process, whatever its PlatformInfo says.
#pragma once

#include "aicore/ai_cores.h"
#include "aicpu/scheduler.h"
#include "graph/graph_builder.h"
#include "platform/device_memory.h"
#include "platform/shared_object.h"
#include "simpler/platform.h"

namespace simpler {

class Simulator final : public Platform {
public:
  // `host_builds`: orchestrations run on the host, before their tasks. `threads`: how many OS threads its logical cores
  // share, with the caller's.
  Simulator(const PlatformInfo &info, bool host_builds, uint32_t threads, const RingSizes &rings);

  const PlatformInfo &info() const override { return info_; }
  uint64_t allocate(uint64_t nbytes) override { return memory_.allocate(nbytes); }
  void release(uint64_t address) override { memory_.release(address); }
  void copy_to_device(uint64_t to, const void *from, uint64_t nbytes) override;
  void copy_to_host(void *to, uint64_t from, uint64_t nbytes) override;
  void check_range(uint64_t address, uint64_t nbytes) const override;
  std::unique_ptr<LoadedCallable> load(const ChipCallable &callable) override;
  void run(LoadedCallable &callable, const TaskArgsView &args, const CallConfig &config,
           const InterruptCheck &interrupted) override;
  uint64_t aicpu_dlopen_count() const override { return host_builds_ ? 0 : orchestrations_loaded_.load(); }
  uint64_t host_dlopen_count() const override { return host_builds_ ? orchestrations_loaded_.load() : 0; }
  GraphCounts graph_counts() const override { return {builder_->built(), builder_->replayed()}; }

private:
  void check(const CallConfig &config) const;

  const PlatformInfo &info_;
  const bool host_builds_;
  const RingSizes rings_;
  DeviceMemory memory_;
  SharedObjectStore objects_;
  std::atomic<uint64_t> orchestrations_loaded_{0};
  AiCores cores_;
  Scheduler scheduler_;
  std::unique_ptr<GraphBuilder> builder_;
};

} // namespace simpler
