#include "platform/shared_object.h"

#include "simpler/errors.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __linux__
#include <elf.h>
#include <fcntl.h>
#endif

namespace simpler {
namespace {

#ifdef __linux__

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

// An anonymous file with this content that can't be changed any more.
int sealed_file(Bytes content, const std::string &name) {
  const auto refuse = [&](const char *call) {
    throw CallableError("can't load '" + name + "': " + call + ": " + std::strerror(errno));
  };
  const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  int fd = memfd_create(name.substr(0, 200).c_str(), flags | MFD_EXEC);
  if (fd < 0 && errno == EINVAL) // before Linux 6.3 every memfd was executable and the flag unknown
    fd = memfd_create(name.substr(0, 200).c_str(), flags);
  if (fd < 0)
    refuse("memfd_create");
  for (size_t done = 0; done < content.size();) {
    const ssize_t n = write(fd, content.data() + done, content.size() - done);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0) {
      const int reason = errno;
      close(fd);
      errno = reason;
      refuse("write");
    }
    done += static_cast<size_t>(n);
  }
  if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0) {
    const int reason = errno;
    close(fd);
    errno = reason;
    refuse("F_ADD_SEALS");
  }
  return fd;
}

#else

int sealed_file(Bytes, const std::string &name) {
  throw PlatformError("can't load '" + name + "': loading callables needs memfd_create, which only Linux has");
}

#endif

std::string loader_error() {
  const char *text = dlerror();
  return text != nullptr ? text : "unknown reason";
}

// A path to an open file that was never used before. The loader takes two objects with the same path for one, as long
// as the first is loaded, and some stay loaded after dlclose; the number of a file that was closed is soon used again.
// So a count of all loads is part of the path: its bits, written as "." and nothing, between slashes.
std::string unique_path(int fd) {
  static std::atomic<uint64_t> loads{0};
  std::string path = "/proc/self/fd/";
  for (uint64_t bits = ++loads; bits != 0; bits /= 2)
    path += bits % 2 != 0 ? "./" : "/";
  return path + std::to_string(fd);
}

// Closes a file when it goes.
struct OpenFile {
  int fd;
  ~OpenFile() { close(fd); }
};

} // namespace

SharedObject::SharedObject(Bytes content, const std::string &name) {
  const OpenFile file{sealed_file(content, name)};
  void *mapped = mmap(nullptr, content.size(), PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (mapped == MAP_FAILED)
    throw CallableError("can't load '" + name + "': mmap: " + std::strerror(errno));
  content_ = {static_cast<const std::byte *>(mapped), content.size()};
  handle_ = dlopen(unique_path(file.fd).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle_ == nullptr) {
    const std::string reason = loader_error();
    munmap(mapped, content.size());
    throw CallableError("can't load '" + name + "': " + reason);
  }
}

SharedObject::~SharedObject() {
  dlclose(handle_);
  munmap(const_cast<std::byte *>(content_.data()), content_.size());
}

void *SharedObject::symbol(std::string_view symbol, const std::string &name) const {
  void *address = dlsym(handle_, std::string(symbol).c_str());
  if (address == nullptr)
    throw CallableError("'" + name + "' has no symbol '" + std::string(symbol) + "': " + loader_error() +
                        "; is it declared extern \"C\"?");
  return address;
}

std::shared_ptr<SharedObject> SharedObjectStore::load(Bytes content, const std::string &name,
                                                      std::atomic<uint64_t> *loaded) {
  std::string key = build_id_of(content);
  if (key.empty())
    key =
        "hash " +
        std::to_string(std::hash<std::string_view>{}({reinterpret_cast<const char *>(content.data()), content.size()}));
  const std::lock_guard lock(mutex_);
  std::erase_if(objects_, [](const auto &entry) { return entry.second.expired(); });
  const auto [first, last] = objects_.equal_range(key);
  for (auto it = first; it != last; ++it)
    if (const auto object = it->second.lock(); std::ranges::equal(object->content(), content))
      return object;
  auto object = std::make_shared<SharedObject>(content, name);
  objects_.emplace(std::move(key), object);
  if (loaded != nullptr)
    ++*loaded;
  return object;
}

size_t SharedObjectStore::loaded_objects() const {
  const std::lock_guard lock(mutex_);
  size_t count = 0;
  for (const auto &[key, object] : objects_)
    count += object.expired() ? 0 : 1;
  return count;
}

#ifdef __linux__

namespace {

// Reads a T at `offset`; false when it lies outside.
template <class T> bool read_at(Bytes image, uint64_t offset, T &value) {
  if (offset > image.size() || sizeof value > image.size() - offset)
    return false;
  std::memcpy(&value, image.data() + offset, sizeof value);
  return true;
}

// The content of a note of that owner and type.
Bytes find_note(Bytes notes, std::string_view owner, uint32_t type) {
  constexpr uint64_t ALIGN = 4;
  uint64_t at = 0;
  Elf64_Nhdr note;
  while (read_at(notes, at, note)) {
    const uint64_t name = at + sizeof note;
    const uint64_t value = name + (uint64_t{note.n_namesz} + ALIGN - 1) / ALIGN * ALIGN;
    const uint64_t next = value + (uint64_t{note.n_descsz} + ALIGN - 1) / ALIGN * ALIGN;
    if (value > notes.size() || note.n_descsz > notes.size() - value)
      break;
    // The name ends with a zero.
    if (note.n_type == type && note.n_namesz == owner.size() + 1 &&
        std::memcmp(notes.data() + name, owner.data(), owner.size()) == 0)
      return notes.subspan(value, note.n_descsz);
    at = next;
  }
  return {};
}

} // namespace

Bytes note_of(Bytes image, std::string_view owner, uint32_t type) {
  Elf64_Ehdr elf;
  if (!read_at(image, 0, elf) || std::memcmp(elf.e_ident, ELFMAG, SELFMAG) != 0 ||
      elf.e_ident[EI_CLASS] != ELFCLASS64 || elf.e_phentsize != sizeof(Elf64_Phdr))
    return {};
  for (uint64_t i = 0; i < elf.e_phnum; ++i) {
    Elf64_Phdr segment;
    if (elf.e_phoff > image.size() || !read_at(image, elf.e_phoff + i * sizeof segment, segment))
      return {};
    if (segment.p_type != PT_NOTE || segment.p_offset > image.size() ||
        segment.p_filesz > image.size() - segment.p_offset)
      continue;
    const Bytes notes = image.subspan(segment.p_offset, segment.p_filesz);
    if (const Bytes content = find_note(notes, owner, type); !content.empty())
      return content;
  }
  return {};
}

std::string build_id_of(Bytes image) {
  const Bytes id = note_of(image, "GNU", NT_GNU_BUILD_ID);
  return {reinterpret_cast<const char *>(id.data()), id.size()};
}

#else

Bytes note_of(Bytes, std::string_view, uint32_t) { return {}; }
std::string build_id_of(Bytes) { return {}; }

#endif

} // namespace simpler
