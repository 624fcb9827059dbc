// Loads shared objects from memory: once for each distinct content, from a file nobody can overwrite.
#pragma once

#include "simpler/chip_callable.h"

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

namespace simpler {

// One loaded object. Unloaded with its last owner.
class SharedObject {
public:
  // Throws CallableError with the loader's words; `name` says which object it was.
  SharedObject(Bytes content, const std::string &name);
  ~SharedObject();
  SharedObject(const SharedObject &) = delete;
  SharedObject &operator=(const SharedObject &) = delete;

  // Throws CallableError when there is no such symbol.
  void *symbol(std::string_view symbol, const std::string &name) const;
  Bytes content() const { return content_; }

private:
  Bytes content_; // of the file, mapped
  void *handle_ = nullptr;
};

// Safe to call from several threads.
class SharedObjectStore {
public:
  // The object with this content: a new one, or the one that is loaded already. `loaded` is raised by one for a new
  // one.
  std::shared_ptr<SharedObject> load(Bytes content, const std::string &name, std::atomic<uint64_t> *loaded = nullptr);
  size_t loaded_objects() const;

private:
  mutable std::mutex mutex_;
  // By Build-ID, or by content hash where there is none. Different contents may share a key.
  std::unordered_multimap<std::string, std::weak_ptr<SharedObject>> objects_;
};

// The content of the first ELF note of that owner and type; empty when there is none or the image is damaged.
Bytes note_of(Bytes image, std::string_view owner, uint32_t type);

// The GNU Build-ID of an ELF image, as bytes; empty when there is none or the image is damaged.
std::string build_id_of(Bytes image);

} // namespace simpler
