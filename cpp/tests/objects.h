// The shared objects the tests load.
#pragma once

#include "simpler/chip_callable.h"

#include <fstream>
#include <iterator>

namespace simpler {

inline std::vector<std::byte> object(const std::string &name) {
  std::ifstream file(std::string(OBJECT_DIR) + "/" + name + ".so", std::ios::binary);
  const std::vector<char> content{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const auto *p = reinterpret_cast<const std::byte *>(content.data());
  return {p, p + content.size()};
}

} // namespace simpler
