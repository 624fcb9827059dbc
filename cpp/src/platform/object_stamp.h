// Reads the stamp of an object before it is loaded (simpler/object_stamp.h).
#pragma once

#include "simpler/chip_callable.h"

#include <string>

namespace simpler {

// Throws CallableError unless the object speaks this kernel ABI and was compiled for a CPU that this one can stand for.
void check_stamp(Bytes object, const std::string &name);

// What this CPU lacks of a target such as "x86-64-v3+gfni"; empty when nothing.
std::string missing_of_target(std::string_view target);

} // namespace simpler
