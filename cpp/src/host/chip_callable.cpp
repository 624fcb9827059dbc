#include "simpler/chip_callable.h"

#include "simpler/errors.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace simpler {
namespace {

constexpr char MAGIC[8] = {'S', 'I', 'M', 'P', 'L', 'E', 'R', 'C'};
constexpr uint32_t FORMAT_VERSION = 1;
constexpr size_t OBJECT_ALIGNMENT = 64;

struct Extent {
  uint64_t offset; // from the start of the buffer
  uint64_t nbytes;
};

struct Header {
  char magic[8];
  uint32_t format_version;
  uint32_t kernel_abi_version;
  uint64_t content_hash;
  uint64_t header_nbytes;
  uint64_t total_nbytes;
  uint32_t kernel_count;
  int32_t scalar_count;
  Extent name;
  Extent symbol;
  Extent signature;
  Extent orchestration;
};
static_assert(sizeof(Header) == 112);

struct KernelEntry {
  int32_t func_id;
  uint8_t core_type;
  uint8_t pad[3];
  Extent name;
  Extent symbol;
  Extent object;
};
static_assert(sizeof(KernelEntry) == 56);

constexpr size_t HASHED_FROM = offsetof(Header, header_nbytes);

uint64_t fnv1a(const std::byte *data, size_t nbytes) {
  uint64_t hash = 14695981039346656037ULL;
  for (size_t i = 0; i < nbytes; ++i)
    hash = (hash ^ static_cast<uint64_t>(data[i])) * 1099511628211ULL;
  return hash;
}

ChipCallableLayout layout_of(const std::byte *buffer, const Header &header) {
  return {header.header_nbytes, header.total_nbytes, fnv1a(buffer + HASHED_FROM, header.total_nbytes - HASHED_FROM)};
}

// Hands out consecutive extents of the buffer to be.
class Cursor {
public:
  explicit Cursor(uint64_t at) : at_(at) {}
  Extent take(uint64_t nbytes) {
    const Extent extent{at_, nbytes};
    at_ += nbytes;
    return extent;
  }
  uint64_t align() { return at_ = (at_ + OBJECT_ALIGNMENT - 1) / OBJECT_ALIGNMENT * OBJECT_ALIGNMENT; }
  uint64_t at() const { return at_; }

private:
  uint64_t at_;
};

void check(const ChipCallableSource &source) {
  const auto refuse = [&](const std::string &what) {
    throw CallableError("can't build callable '" + source.name + "': " + what);
  };
  if (source.name.empty())
    refuse("it has no name");
  if (source.orchestration.empty())
    refuse("its orchestration object is empty");
  if (source.orchestration_symbol.empty())
    refuse("its orchestration symbol is empty");
  if (source.scalar_count < 0)
    refuse("scalar_count is " + std::to_string(source.scalar_count));
  std::vector<int32_t> ids;
  for (const KernelSource &kernel : source.kernels) {
    if (kernel.name.empty() || kernel.symbol.empty())
      refuse("kernel with func_id " + std::to_string(kernel.func_id) + " has no name or no symbol");
    if (kernel.object.empty())
      refuse("the object of kernel '" + kernel.name + "' is empty");
    if (std::find(ids.begin(), ids.end(), kernel.func_id) != ids.end())
      refuse("func_id " + std::to_string(kernel.func_id) + " is used twice");
    ids.push_back(kernel.func_id);
  }
}

// Aligned like the objects inside, so that headers can be read in place.
std::shared_ptr<std::byte[]> make_buffer(size_t nbytes) {
  auto *p = static_cast<std::byte *>(::operator new[](nbytes, std::align_val_t{OBJECT_ALIGNMENT}));
  std::memset(p, 0, nbytes);
  return {p, [](std::byte *q) { ::operator delete[](q, std::align_val_t{OBJECT_ALIGNMENT}); }};
}

[[noreturn]] void reject(const std::string &what) { throw CallableError("these bytes are no ChipCallable: " + what); }

} // namespace

ChipCallable ChipCallable::build(const ChipCallableSource &source) {
  check(source);
  Header header{};
  std::memcpy(header.magic, MAGIC, sizeof MAGIC);
  header.format_version = FORMAT_VERSION;
  header.kernel_abi_version = KERNEL_ABI_VERSION;
  header.kernel_count = static_cast<uint32_t>(source.kernels.size());
  header.scalar_count = source.scalar_count;

  Cursor cursor(sizeof(Header) + sizeof(KernelEntry) * source.kernels.size());
  header.signature = cursor.take(source.signature.size());
  header.name = cursor.take(source.name.size());
  header.symbol = cursor.take(source.orchestration_symbol.size());
  std::vector<KernelEntry> entries;
  for (const KernelSource &kernel : source.kernels)
    entries.push_back({kernel.func_id,
                       static_cast<uint8_t>(kernel.core_type),
                       {},
                       cursor.take(kernel.name.size()),
                       cursor.take(kernel.symbol.size()),
                       {}});
  header.header_nbytes = cursor.align();
  header.orchestration = cursor.take(source.orchestration.size());
  for (size_t i = 0; i < entries.size(); ++i) {
    cursor.align();
    entries[i].object = cursor.take(source.kernels[i].object.size());
  }
  header.total_nbytes = cursor.align();

  auto buffer = make_buffer(header.total_nbytes);
  const auto put = [&](Extent extent, const void *from) {
    if (extent.nbytes != 0)
      std::memcpy(buffer.get() + extent.offset, from, extent.nbytes);
  };
  put(header.signature, source.signature.data());
  put(header.name, source.name.data());
  put(header.symbol, source.orchestration_symbol.data());
  put(header.orchestration, source.orchestration.data());
  for (size_t i = 0; i < entries.size(); ++i) {
    const KernelSource &kernel = source.kernels[i];
    put(entries[i].name, kernel.name.data());
    put(entries[i].symbol, kernel.symbol.data());
    put(entries[i].object, kernel.object.data());
  }
  put({sizeof(Header), sizeof(KernelEntry) * entries.size()}, entries.data());
  put({0, sizeof header}, &header);
  header.content_hash = layout_of(buffer.get(), header).content_hash;
  put({0, sizeof header}, &header);
  return ChipCallable(std::move(buffer), header.total_nbytes);
}

ChipCallable ChipCallable::from_bytes(Bytes bytes) {
  auto buffer = make_buffer(std::max(bytes.size(), sizeof(Header)));
  if (!bytes.empty())
    std::memcpy(buffer.get(), bytes.data(), bytes.size());
  return ChipCallable(std::move(buffer), bytes.size());
}

// Validates everything that is read later: the buffer may come from anywhere.
ChipCallable::ChipCallable(std::shared_ptr<const std::byte[]> buffer, size_t nbytes) : buffer_(std::move(buffer)) {
  Header header;
  if (nbytes < sizeof header)
    reject(std::to_string(nbytes) + " bytes are fewer than a header");
  std::memcpy(&header, buffer_.get(), sizeof header);
  if (std::memcmp(header.magic, MAGIC, sizeof MAGIC) != 0)
    reject("the magic number is wrong");
  if (header.format_version != FORMAT_VERSION)
    reject("format version " + std::to_string(header.format_version) + ", expected " + std::to_string(FORMAT_VERSION));
  if (header.kernel_abi_version != KERNEL_ABI_VERSION)
    reject("its objects were compiled for kernel ABI " + std::to_string(header.kernel_abi_version) + ", this is " +
           std::to_string(KERNEL_ABI_VERSION) + "; compile it again");
  if (header.total_nbytes != nbytes)
    reject("it says " + std::to_string(header.total_nbytes) + " bytes, got " + std::to_string(nbytes));
  if (header.header_nbytes < sizeof header || header.header_nbytes > nbytes)
    reject("the header's size is wrong");
  if (header.kernel_count > (header.header_nbytes - sizeof header) / sizeof(KernelEntry))
    reject("more kernels than its header has room for");
  layout_ = layout_of(buffer_.get(), header);
  if (layout_.content_hash != header.content_hash)
    reject("the content hash does not match: the bytes are damaged");

  const auto in = [&](Extent extent, uint64_t begin, uint64_t end, const char *what) {
    if (extent.offset < begin || extent.offset > end || extent.nbytes > end - extent.offset)
      reject(std::string("the ") + what + " lies outside");
    return buffer_.get() + extent.offset;
  };
  const uint64_t entries_end = sizeof(Header) + sizeof(KernelEntry) * header.kernel_count;
  const auto text = [&](Extent extent, const char *what) {
    const std::byte *p = in(extent, entries_end, header.header_nbytes, what);
    if (extent.nbytes == 0 || std::memchr(p, 0, extent.nbytes) != nullptr)
      reject(std::string("the ") + what + " is no name");
    return std::string_view(reinterpret_cast<const char *>(p), extent.nbytes);
  };
  const auto object = [&](Extent extent, const char *what) {
    const std::byte *p = in(extent, header.header_nbytes, nbytes, what);
    if (extent.nbytes == 0)
      reject(std::string("the ") + what + " is empty");
    return Bytes(p, extent.nbytes);
  };

  name_ = text(header.name, "name");
  symbol_ = text(header.symbol, "orchestration symbol");
  orchestration_ = object(header.orchestration, "orchestration object");
  if (header.scalar_count < 0)
    reject("a negative number of scalars");
  scalar_count_ = header.scalar_count;
  const std::byte *tags = in(header.signature, entries_end, header.header_nbytes, "signature");
  for (uint64_t i = 0; i < header.signature.nbytes; ++i)
    if (static_cast<uint32_t>(tags[i]) >= TENSOR_ARG_TYPE_COUNT)
      reject("the signature has an unknown tag");
  signature_ = {reinterpret_cast<const TensorArgType *>(tags), header.signature.nbytes};

  for (uint32_t i = 0; i < header.kernel_count; ++i) {
    KernelEntry entry;
    std::memcpy(&entry, buffer_.get() + sizeof(Header) + sizeof entry * i, sizeof entry);
    if (entry.core_type >= CORE_TYPE_COUNT)
      reject("a kernel has an unknown core type");
    for (const Kernel &earlier : kernels_)
      if (earlier.func_id == entry.func_id)
        reject("func_id " + std::to_string(entry.func_id) + " is used twice");
    kernels_.push_back({entry.func_id, static_cast<CoreType>(entry.core_type), text(entry.name, "kernel name"),
                        text(entry.symbol, "kernel symbol"), object(entry.object, "kernel object")});
  }
}

} // namespace simpler
