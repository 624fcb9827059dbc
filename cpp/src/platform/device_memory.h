// The memory of one chip: an allocator that knows the bounds of what is live.
#pragma once

#include "simpler/platform.h"

#include <map>
#include <mutex>
#include <set>

namespace simpler {

// Safe to call from several threads. First come, best fit, in one sparse mapping where the chip has memory of its own;
// single mappings of host memory where it has not. The pages of a released block of some size go back to the system.
class DeviceMemory {
public:
  static constexpr uint64_t ALIGNMENT = 512;

  explicit DeviceMemory(const PlatformInfo &info);
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory &) = delete;
  DeviceMemory &operator=(const DeviceMemory &) = delete;

  // The address of a block of at least `nbytes`. Throws DeviceMemoryError when there is none.
  uint64_t allocate(uint64_t nbytes);
  // Throws DeviceMemoryError unless `address` came from allocate().
  void release(uint64_t address);
  // Gives the pages of this part of a live block back; they read as zero.
  void give_back(uint64_t address, uint64_t nbytes) noexcept;
  // True when the range is inside one live block. An empty range is inside anything.
  bool contains(uint64_t address, uint64_t nbytes) const { return nbytes == 0 || find(address, nbytes) != 0; }
  // The address of the live block that the range is in; 0 when there is none.
  uint64_t find(uint64_t address, uint64_t nbytes) const;

  uint64_t live_nbytes() const;
  size_t live_blocks() const;

private:
  struct Block {
    uint64_t asked;    // what bounds are checked against
    uint64_t occupied; // a multiple of ALIGNMENT
  };
  uint64_t take_from_arena(uint64_t occupied);
  void return_to_arena(uint64_t begin, uint64_t occupied);

  mutable std::mutex mutex_;
  uint64_t arena_ = 0; // 0: no arena
  uint64_t arena_nbytes_ = 0;
  std::map<uint64_t, Block> live_;                    // by address
  std::map<uint64_t, uint64_t> free_;                 // address → bytes, never adjacent to one another
  std::set<std::pair<uint64_t, uint64_t>> free_size_; // the same as (bytes, address)
  uint64_t live_nbytes_ = 0;
};

// For messages: "0x7f00a000", "128 bytes at 0x7f00a000".
std::string describe_address(uint64_t address);
std::string describe_range(uint64_t address, uint64_t nbytes);

} // namespace simpler
