#include "platform/device_memory.h"

#include "simpler/errors.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

namespace simpler {
namespace {

// Giving fewer pages back costs more in page faults later than they are worth.
constexpr uint64_t GIVE_BACK_FROM = 1 << 20;

uint64_t round_up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

uint64_t map_sparse(uint64_t nbytes) {
  void *p = mmap(nullptr, nbytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? 0 : reinterpret_cast<uint64_t>(p);
}

void *as_pointer(uint64_t address) { return reinterpret_cast<void *>(static_cast<uintptr_t>(address)); }

} // namespace

std::string describe_address(uint64_t address) {
  char text[32];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(address));
  return text;
}

std::string describe_range(uint64_t address, uint64_t nbytes) {
  return std::to_string(nbytes) + " bytes at " + describe_address(address);
}

DeviceMemory::DeviceMemory(const PlatformInfo &info) {
  if (!info.separate_memory)
    return;
  arena_nbytes_ = info.device_memory_nbytes;
  arena_ = map_sparse(arena_nbytes_);
  if (arena_ == 0)
    throw DeviceMemoryError("can't reserve " + std::to_string(arena_nbytes_) +
                            " bytes of address space as memory of '" + info.name + "': " + std::strerror(errno) +
                            "; raise the limit (ulimit -v, overcommit)");
  return_to_arena(arena_, arena_nbytes_);
}

DeviceMemory::~DeviceMemory() {
  if (arena_ != 0) {
    munmap(as_pointer(arena_), arena_nbytes_);
    return;
  }
  for (const auto &[address, block] : live_)
    munmap(as_pointer(address), block.occupied);
}

uint64_t DeviceMemory::allocate(uint64_t nbytes) {
  if (nbytes >> 62)
    throw DeviceMemoryError("can't allocate " + std::to_string(nbytes) + " bytes of device memory");
  const uint64_t occupied = round_up(nbytes == 0 ? 1 : nbytes, ALIGNMENT);
  const std::lock_guard lock(mutex_);
  const uint64_t address = arena_ != 0 ? take_from_arena(occupied) : map_sparse(occupied);
  if (address == 0)
    throw DeviceMemoryError("out of device memory: " + std::to_string(nbytes) + " bytes asked for, " +
                            std::to_string(live_nbytes_) + " bytes live in " + std::to_string(live_.size()) +
                            " blocks" + (arena_ != 0 ? ", " + std::to_string(arena_nbytes_) + " bytes in all" : ""));
  live_.emplace(address, Block{nbytes, occupied});
  live_nbytes_ += nbytes;
  return address;
}

void DeviceMemory::release(uint64_t address) {
  const std::lock_guard lock(mutex_);
  const auto it = live_.find(address);
  if (it == live_.end())
    throw DeviceMemoryError("can't free " + describe_address(address) +
                            ": no live block of device memory starts there");
  const Block block = it->second;
  live_.erase(it);
  live_nbytes_ -= block.asked;
  if (arena_ == 0) {
    munmap(as_pointer(address), block.occupied);
    return;
  }
  if (block.occupied >= GIVE_BACK_FROM)
    give_back(address, block.occupied);
  return_to_arena(address, block.occupied);
}

void DeviceMemory::give_back(uint64_t address, uint64_t nbytes) noexcept {
  static const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const uint64_t first = round_up(address, page), last = (address + nbytes) / page * page;
  if (first < last)
    madvise(as_pointer(first), last - first, MADV_DONTNEED); // a hint: without it the pages merely stay
}

uint64_t DeviceMemory::find(uint64_t address, uint64_t nbytes) const {
  const std::lock_guard lock(mutex_);
  auto it = live_.upper_bound(address);
  if (it == live_.begin())
    return 0;
  --it;
  const uint64_t offset = address - it->first;
  return offset <= it->second.asked && nbytes <= it->second.asked - offset ? it->first : 0;
}

uint64_t DeviceMemory::live_nbytes() const {
  const std::lock_guard lock(mutex_);
  return live_nbytes_;
}

size_t DeviceMemory::live_blocks() const {
  const std::lock_guard lock(mutex_);
  return live_.size();
}

uint64_t DeviceMemory::take_from_arena(uint64_t occupied) {
  const auto fit = free_size_.lower_bound({occupied, 0});
  if (fit == free_size_.end())
    return 0;
  const auto [nbytes, address] = *fit;
  free_size_.erase(fit);
  free_.erase(address);
  if (nbytes > occupied) {
    free_.emplace(address + occupied, nbytes - occupied);
    free_size_.emplace(nbytes - occupied, address + occupied);
  }
  return address;
}

void DeviceMemory::return_to_arena(uint64_t begin, uint64_t occupied) {
  uint64_t end = begin + occupied;
  auto after = free_.lower_bound(begin);
  if (after != free_.end() && after->first == end) {
    end += after->second;
    free_size_.erase({after->second, after->first});
    after = free_.erase(after);
  }
  if (after != free_.begin()) {
    const auto before = std::prev(after);
    if (before->first + before->second == begin) {
      begin = before->first;
      free_size_.erase({before->second, before->first});
      free_.erase(before);
    }
  }
  free_.emplace(begin, end - begin);
  free_size_.emplace(end - begin, begin);
}

} // namespace simpler
