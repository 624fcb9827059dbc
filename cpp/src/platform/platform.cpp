#include "simpler/platform.h"

#include "platform/simulator.h"
#include "simpler/errors.h"

#include <algorithm>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif

namespace simpler {
namespace {

constexpr uint64_t KIB = 1024, GIB = KIB * KIB * KIB;

PlatformInfo describe_a2a3sim() {
  return {.name = "a2a3sim",
          .dies = 1,
          .clusters = 24,
          .aicpu_threads = 4,
          .core_memory_nbytes = {512 * KIB, 192 * KIB},
          .device_memory_nbytes = 64 * GIB,
          .separate_memory = true,
          .limited_clusters = true};
}

PlatformInfo describe_a5sim() {
  PlatformInfo info = describe_a2a3sim();
  info.name = "a5sim";
  info.dies = 2;
  info.clusters = 2 * 18;
  info.aicpu_threads = 7;
  info.device_memory_nbytes = 128 * GIB;
  return info;
}

PlatformInfo describe_cpu() {
  return {.name = "cpu",
          .dies = 1,
          .clusters = available_cpus(),
          // As many as the largest simulated chip has, so that what runs there runs here.
          .aicpu_threads = describe_a5sim().aicpu_threads,
          .core_memory_nbytes = {0, 0},
          .device_memory_nbytes = 0,
          .separate_memory = false,
          .limited_clusters = false};
}

std::string names() {
  std::string text;
  for (const PlatformInfo &info : platforms())
    text += (text.empty() ? "" : ", ") + info.name;
  return text;
}

std::string runtime_names() {
  std::string text;
  for (const std::string &name : runtimes())
    text += (text.empty() ? "" : ", ") + name;
  return text;
}

} // namespace

const std::vector<PlatformInfo> &platforms() {
  static const std::vector<PlatformInfo> all = {describe_a2a3sim(), describe_a5sim(), describe_cpu()};
  return all;
}

const std::vector<std::string> &runtimes() {
  static const std::vector<std::string> all = {HOST_BUILD_GRAPH, TENSORMAP_AND_RINGBUFFER};
  return all;
}

const PlatformInfo &find_platform(std::string_view name) {
  for (const PlatformInfo &info : platforms())
    if (info.name == name)
      return info;
  if (name == "a2a3" || name == "a5")
    throw PlatformError("platform '" + std::string(name) +
                        "' is hardware, and there is no implementation for it yet; '" + std::string(name) +
                        "sim' simulates it (platforms that work here: " + names() + ")");
  throw PlatformError("unknown platform '" + std::string(name) + "'; known platforms: " + names());
}

void check_platform(std::string_view platform, std::string_view runtime) {
  find_platform(platform);
  if (std::find(runtimes().begin(), runtimes().end(), runtime) == runtimes().end())
    throw PlatformError("unknown runtime '" + std::string(runtime) + "'; known runtimes: " + runtime_names());
}

std::unique_ptr<Platform> open_platform(std::string_view platform, std::string_view runtime, uint32_t threads,
                                        const RingSizes &rings) {
  check_platform(platform, runtime);
  return std::make_unique<Simulator>(find_platform(platform), runtime == HOST_BUILD_GRAPH,
                                     threads == 0 ? available_cpus() : threads, rings);
}

uint32_t available_cpus() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    return static_cast<uint32_t>(std::max(1, CPU_COUNT(&set)));
#endif
  return std::max(1U, std::thread::hardware_concurrency());
}

} // namespace simpler
