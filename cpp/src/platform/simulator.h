// A chip simulated on threads of this process, whatever its PlatformInfo says.
#pragma once

#include "aicpu/graph_builder.h"
#include "platform/device_memory.h"
#include "platform/shared_object.h"
#include "simpler/platform.h"

namespace simpler {

class Simulator final : public Platform {
public:
  // `threads`: how many OS threads its logical cores share, with the caller's.
  Simulator(const PlatformInfo &info, uint32_t threads, const RingSizes &rings);

  const PlatformInfo &info() const override { return info_; }
  uint64_t allocate(uint64_t nbytes) override { return memory_.allocate(nbytes); }
  void release(uint64_t address) override { memory_.release(address); }
  void copy_to_device(uint64_t to, const void *from, uint64_t nbytes) override;
  void copy_to_host(void *to, uint64_t from, uint64_t nbytes) override;
  void check_range(uint64_t address, uint64_t nbytes) const override;
  std::unique_ptr<LoadedCallable> load(const ChipCallable &callable) override;
  void run(LoadedCallable &callable, const TaskArgsView &args, std::span<const DeviceRange> ranges,
           const CallConfig &config, const InterruptCheck &interrupted) override;
  uint64_t aicpu_dlopen_count() const override { return aicpu_dlopen_count_; }
  uint64_t host_dlopen_count() const override { return 0; }

private:
  uint32_t clusters_for(const CallConfig &config) const;

  const PlatformInfo &info_;
  DeviceMemory memory_;
  SharedObjectStore objects_;
  uint64_t aicpu_dlopen_count_ = 0;
  Scheduler scheduler_;
  GraphBuilder graph_builder_;
};

} // namespace simpler
