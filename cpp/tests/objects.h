// The shared objects the tests load.
#pragma once

#include "simpler/chip_callable.h"

#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

namespace simpler {

inline std::vector<std::byte> object(const std::string &name) {
  std::ifstream file(std::string(OBJECT_DIR) + "/" + name + ".so", std::ios::binary);
  const std::vector<char> content{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const auto *p = reinterpret_cast<const std::byte *>(content.data());
  return {p, p + content.size()};
}

// How many loaded objects have `part` in their name.
inline size_t mapped_objects(const std::string &part) {
  std::ifstream maps("/proc/self/maps");
  std::set<std::string> inodes;
  std::string line, range, mode, offset, device, inode, name;
  while (std::getline(maps, line)) {
    std::istringstream fields(line);
    fields >> range >> mode >> offset >> device >> inode;
    std::getline(fields, name);
    if (name.find("memfd:") != std::string::npos && name.find(part) != std::string::npos)
      inodes.insert(inode);
  }
  return inodes.size();
}

} // namespace simpler
