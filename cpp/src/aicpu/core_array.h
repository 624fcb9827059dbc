// What a scheduler puts tasks on.
#pragma once

#include "graph/task_slot.h"

#include <string>

namespace simpler {

class CoreArray {
public:
  virtual ~CoreArray() = default;
  // Cores of one type are counted from 0; `core_id` counts all of the chip.
  virtual uint32_t core_id(CoreType type, uint32_t index) const = 0;
  // Runs one block of a task to its end; one call a core at a time. Gives what it failed with, null when it did not.
  virtual std::unique_ptr<std::string> run(CoreType type, uint32_t index, const TaskSlot &slot, uint32_t block) = 0;
};

} // namespace simpler
