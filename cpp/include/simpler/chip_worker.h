// ChipWorker: one chip, its prepared callables and its memory, for one process.
#pragma once

#include "simpler/platform.h"

#include <array>
#include <atomic>
#include <mutex>
#include <shared_mutex>

namespace simpler {

// Slots of prepared callables on one chip: the one definition, for host and device.
inline constexpr int32_t MAX_CALLABLES = 64;

struct ChipWorkerOptions {
  std::string platform = "cpu";
  std::string runtime = TENSORMAP_AND_RINGBUFFER;
  int32_t device_id = 0;
  uint32_t threads = 0; // 0: as many as this process may use CPUs
  RingSizes rings = {};
};

class HostStaging;

// Safe to call from several threads: runs are served one at a time, everything else also meanwhile. A worker belongs to
// the process that called init().
class ChipWorker {
public:
  // Checks the options; opens nothing and starts nothing. Throws PlatformError.
  explicit ChipWorker(ChipWorkerOptions options);
  ~ChipWorker();
  ChipWorker(const ChipWorker &) = delete;
  ChipWorker &operator=(const ChipWorker &) = delete;

  const ChipWorkerOptions &options() const { return options_; }
  void init();
  // Unloads every callable, gives memory and threads back. Harmless when there is nothing to end.
  void finalize() noexcept;

  void prepare_callable(int32_t callable_id, const ChipCallable &callable);
  void unregister_callable(int32_t callable_id);
  // Runs the callable of that slot: host tensors are brought to the chip and back, child_memory ones used in place.
  // When the run fails, host tensors keep what they had, on platforms with separate memory.
  void run_prepared(int32_t callable_id, const TaskArgsView &args, const CallConfig &config,
                    const InterruptCheck &interrupted = {});
  // The same, with arguments read in place from a blob of at most `capacity` bytes.
  void run_prepared_from_blob(int32_t callable_id, const void *blob, size_t capacity, const CallConfig &config,
                              const InterruptCheck &interrupted = {});

  uint64_t malloc(uint64_t nbytes);
  void free(uint64_t address);
  void copy_to(uint64_t to, const void *from, uint64_t nbytes);
  void copy_from(void *to, uint64_t from, uint64_t nbytes);

  uint64_t aicpu_dlopen_count() const;
  uint64_t host_dlopen_count() const;
  GraphCounts graph_counts() const;

private:
  Platform &chip() const;
  std::shared_ptr<LoadedCallable> &slot(int32_t callable_id);
  std::shared_ptr<LoadedCallable> prepared(int32_t callable_id);

  ChipWorkerOptions options_;
  mutable std::shared_mutex lifetime_; // shared: the chip stays open
  std::mutex run_mutex_, slots_mutex_;
  std::atomic<int> owner_pid_ = 0;
  std::unique_ptr<Platform> platform_;
  std::unique_ptr<HostStaging> staging_; // of the run
  std::array<std::shared_ptr<LoadedCallable>, MAX_CALLABLES> slots_;
  uint64_t aicpu_dlopen_total_ = 0;
  uint64_t host_dlopen_total_ = 0;
  GraphCounts graphs_total_ = {};
};

} // namespace simpler
