#include "host/host_staging.h"

#include "simpler/errors.h"

#include <algorithm>
#include <bit>
#include <string>

namespace simpler {
namespace {

// Device memory kept for later runs, at most.
constexpr uint64_t KEEP_IDLE = uint64_t{1} << 30;
// A tensor keeps its host address modulo this, so that kernels see the same alignment.
constexpr uint64_t KEPT_ALIGNMENT = 64;
constexpr uint64_t SMALLEST_BUFFER = 4096;

const void *as_pointer(uint64_t address) { return reinterpret_cast<const void *>(static_cast<uintptr_t>(address)); }

// Few sizes, so that buffers fit again; at most an eighth is wasted.
uint64_t size_class(uint64_t nbytes) {
  if (nbytes <= SMALLEST_BUFFER)
    return SMALLEST_BUFFER;
  const uint64_t step = std::bit_floor(nbytes) / 8;
  return (nbytes + step - 1) / step * step;
}

} // namespace

TaskArgsView HostStaging::bring(const TaskArgsView &args, std::span<const TensorArgType> signature) {
  ++run_;
  host_ranges_.clear();
  find_host_ranges(args, signature);
  for (HostRange &range : host_ranges_) {
    const uint64_t nbytes = range.end - range.begin;
    if (platform_.info().separate_memory) {
      const uint64_t shift = range.begin % KEPT_ALIGNMENT;
      range.device = acquire(nbytes + shift) + shift;
      if (range.copied)
        platform_.copy_to_device(range.device, as_pointer(range.begin), nbytes);
    } else {
      range.device = range.begin;
    }
  }

  tensors_.assign(args.tensors, args.tensors + args.tensor_count);
  for (int32_t i = 0; i < args.tensor_count; ++i) {
    ContinuousTensor &tensor = tensors_[static_cast<size_t>(i)];
    const uint64_t nbytes = nbytes_of(tensor);
    if (nbytes == 0)
      continue;
    if (tensor.child_memory != 0) {
      try {
        platform_.check_range(tensor.data, nbytes);
      } catch (const DeviceMemoryError &e) {
        throw DeviceMemoryError("argument " + std::to_string(i) + " (child_memory): " + e.what());
      }
    } else {
      const HostRange &range = range_of(tensor.data);
      tensor.data = range.device + (tensor.data - range.begin);
    }
  }
  return {args.tensor_count, args.scalar_count, tensors_.data(), args.scalars};
}

void HostStaging::take_back(const TaskArgsView &args, std::span<const TensorArgType> signature) {
  if (!platform_.info().separate_memory)
    return;
  for (int32_t i = 0; i < args.tensor_count; ++i) {
    const ContinuousTensor &host = args.tensors[i];
    // NO_DEP says nothing about the direction.
    const bool written =
        writes(signature[static_cast<size_t>(i)]) || signature[static_cast<size_t>(i)] == TensorArgType::NO_DEP;
    if (host.child_memory == 0 && written && nbytes_of(host) != 0)
      platform_.copy_to_host(host.as<void>(), tensors_[static_cast<size_t>(i)].data, nbytes_of(host));
  }
}

void HostStaging::end() noexcept {
  for (const Buffer &buffer : used_) {
    idle_.emplace(buffer.nbytes, buffer);
    idle_nbytes_ += buffer.nbytes;
  }
  used_.clear();
  trim(KEEP_IDLE);
}

// The unions of overlapping arguments. Ranges that only touch stay apart.
void HostStaging::find_host_ranges(const TaskArgsView &args, std::span<const TensorArgType> signature) {
  for (int32_t i = 0; i < args.tensor_count; ++i) {
    const ContinuousTensor &tensor = args.tensors[i];
    const uint64_t nbytes = nbytes_of(tensor);
    if (tensor.child_memory != 0 || nbytes == 0)
      continue;
    if (tensor.data == 0 || tensor.data + nbytes < tensor.data)
      throw CallableError("argument " + std::to_string(i) + ": " + std::to_string(nbytes) +
                          " bytes of host memory can't be at address " + std::to_string(tensor.data));
    const bool written_whole = signature[static_cast<size_t>(i)] == TensorArgType::OUT;
    host_ranges_.push_back({tensor.data, tensor.data + nbytes, 0, !written_whole});
  }
  std::sort(host_ranges_.begin(), host_ranges_.end(),
            [](const HostRange &a, const HostRange &b) { return a.begin < b.begin; });
  size_t count = 0;
  for (const HostRange &range : host_ranges_) {
    if (count != 0 && range.begin < host_ranges_[count - 1].end) {
      host_ranges_[count - 1].end = std::max(host_ranges_[count - 1].end, range.end);
      host_ranges_[count - 1].copied = true; // who overlaps others is written in part only, or read
    } else {
      host_ranges_[count++] = range;
    }
  }
  host_ranges_.resize(count);
}

const HostStaging::HostRange &HostStaging::range_of(uint64_t address) const {
  return *std::prev(std::upper_bound(host_ranges_.begin(), host_ranges_.end(), address,
                                     [](uint64_t at, const HostRange &range) { return at < range.begin; }));
}

uint64_t HostStaging::acquire(uint64_t nbytes) {
  const uint64_t size = size_class(nbytes);
  const auto it = idle_.find(size);
  if (it == idle_.end()) {
    used_.push_back({size, allocate(size), run_});
  } else {
    used_.push_back({size, it->second.address, run_});
    idle_nbytes_ -= size;
    idle_.erase(it);
  }
  return used_.back().address;
}

uint64_t HostStaging::allocate(uint64_t nbytes) {
  try {
    return platform_.allocate(nbytes);
  } catch (const DeviceMemoryError &) { // what is kept for later must not be missing now
    if (idle_.empty())
      throw;
  }
  trim(0);
  return platform_.allocate(nbytes);
}

// Releases those not used for the longest time.
void HostStaging::trim(uint64_t keep_nbytes) {
  while (idle_nbytes_ > keep_nbytes) {
    const auto oldest = std::min_element(idle_.begin(), idle_.end(), [](const auto &a, const auto &b) {
      return a.second.last_used < b.second.last_used;
    });
    platform_.release(oldest->second.address);
    idle_nbytes_ -= oldest->second.nbytes;
    idle_.erase(oldest);
  }
}

} // namespace simpler
