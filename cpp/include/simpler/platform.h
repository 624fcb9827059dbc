// Platforms: what a chip has (data), and what a chip can do (one interface).
#pragma once

#include "simpler/call_config.h"
#include "simpler/chip_callable.h"

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace simpler {

// A cluster is one AIC and two AIV cores.
inline constexpr uint32_t AIC_PER_CLUSTER = 1;
inline constexpr uint32_t AIV_PER_CLUSTER = 2;

struct PlatformInfo {
  std::string name;
  uint32_t dies;
  uint32_t clusters; // of all dies
  uint32_t aicpu_threads;
  uint64_t core_memory_nbytes[CORE_TYPE_COUNT]; // local memory of one AIC, one AIV; 0: unlimited
  uint64_t device_memory_nbytes;                // 0: unlimited
  bool separate_memory;                         // false: kernels work on host memory in place
  bool limited_clusters;                        // false: asking for more clusters than there are means all of them

  uint32_t cores(CoreType type) const { return clusters * (type == CoreType::AIC ? AIC_PER_CLUSTER : AIV_PER_CLUSTER); }
};

// The platforms that work on this machine.
const std::vector<PlatformInfo> &platforms();

// Throws PlatformError naming those that work.
const PlatformInfo &find_platform(std::string_view name);

// A range of device memory.
struct DeviceRange {
  uint64_t begin;
  uint64_t end;
};

// Sizes of the rings of a chip; a run may use less.
struct RingSizes {
  uint64_t heap_nbytes = uint64_t{1} << 30; // of each of the heap rings
  uint32_t task_slots = 1024;
};

// A callable that a platform has loaded.
class LoadedCallable {
public:
  virtual ~LoadedCallable() = default;
  virtual const ChipCallable &callable() const = 0;
};

// Called now and then by the thread that waits in Platform::run; true ends the run as soon as what executes is through.
using InterruptCheck = std::function<bool()>;

// Thrown by Platform::run after an InterruptCheck said so.
struct Interrupted {};

// How many graphs of a chip were built by their orchestrations so far, and run again without.
struct GraphCounts {
  uint64_t built;
  uint64_t replayed;
};

// One open chip. run() is called by one thread at a time; all else by any, also meanwhile.
class Platform {
public:
  virtual ~Platform() = default;
  virtual const PlatformInfo &info() const = 0;

  // Device memory. Throws DeviceMemoryError when it is exhausted, or the range is not inside one live allocation.
  virtual uint64_t allocate(uint64_t nbytes) = 0;
  virtual void release(uint64_t address) = 0;
  virtual void copy_to_device(uint64_t to, const void *from, uint64_t nbytes) = 0;
  virtual void copy_to_host(void *to, uint64_t from, uint64_t nbytes) = 0;
  virtual void check_range(uint64_t address, uint64_t nbytes) const = 0;

  // Throws CallableError naming the object that can't be loaded, with the loader's own words.
  virtual std::unique_ptr<LoadedCallable> load(const ChipCallable &callable) = 0;

  // Runs one callable to its end. `args` are device addresses; its tasks may use them beside live allocations.
  // Throws KernelError, RingFull, DeviceMemoryError, CallableError, CallConfigError, Interrupted.
  virtual void run(LoadedCallable &callable, const TaskArgsView &args, const CallConfig &config,
                   const InterruptCheck &interrupted) = 0;

  // How many orchestrations were loaded so far: on an AICPU, on the host.
  virtual uint64_t aicpu_dlopen_count() const = 0;
  virtual uint64_t host_dlopen_count() const = 0;
  virtual GraphCounts graph_counts() const = 0;
};

// The graph builders there are, by the names that ChipWorkerOptions::runtime takes.
inline constexpr const char *TENSORMAP_AND_RINGBUFFER = "tensormap_and_ringbuffer";
inline constexpr const char *HOST_BUILD_GRAPH = "host_build_graph";
const std::vector<std::string> &runtimes();

// Throws PlatformError for a platform or runtime that does not work here, naming those that do.
void check_platform(std::string_view platform, std::string_view runtime);

// Opens a chip. `threads` 0: as many as this process may use CPUs. Throws as check_platform does.
std::unique_ptr<Platform> open_platform(std::string_view platform, std::string_view runtime, uint32_t threads,
                                        const RingSizes &rings);

// CPUs this process may run on.
uint32_t available_cpus();

} // namespace simpler
