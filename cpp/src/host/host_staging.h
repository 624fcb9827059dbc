// Brings host tensors of a run to the chip and back.
#pragma once

#include "simpler/platform.h"
#include "simpler/task_args.h"

#include <map>
#include <vector>

namespace simpler {

// Arguments that overlap on the host share one range on the chip, so that what aliases there aliases here. Ranges are
// kept between runs: a repeated run allocates nothing and touches no new page.
class HostStaging {
public:
  explicit HostStaging(Platform &platform) : platform_(platform) {}

  // Copies to the chip (where its memory is separate) what a kernel may read, or leave as it is, and gives the
  // arguments to run with: all but tensors that the signature calls OUT. Throws DeviceMemoryError for a child_memory
  // tensor that is not inside one live allocation, or a full device.
  TaskArgsView bring(const TaskArgsView &args, std::span<const TensorArgType> signature);
  // Copies back what the signature says may have been written.
  void take_back(const TaskArgsView &args, std::span<const TensorArgType> signature);
  // Ends the run: its ranges may be used by the next one.
  void end() noexcept;

private:
  struct HostRange {
    uint64_t begin, end;
    uint64_t device; // where `begin` is on the chip
    bool copied;     // before the run
  };
  struct Buffer {
    uint64_t nbytes;
    uint64_t address;
    uint64_t last_used; // in which run
  };
  void find_host_ranges(const TaskArgsView &args, std::span<const TensorArgType> signature);
  const HostRange &range_of(uint64_t address) const;
  uint64_t acquire(uint64_t nbytes);
  uint64_t allocate(uint64_t nbytes);
  void trim(uint64_t keep_nbytes);

  Platform &platform_;
  std::vector<HostRange> host_ranges_;    // of this run, sorted
  std::vector<ContinuousTensor> tensors_; // of this run, on the chip
  std::vector<Buffer> used_;              // in this run
  std::multimap<uint64_t, Buffer> idle_;  // by size
  uint64_t idle_nbytes_ = 0, run_ = 0;
};

} // namespace simpler
