// All AICores of a chip.
#pragma once

#include "aicore/ai_core.h"
#include "aicpu/core_array.h"
#include "simpler/platform.h"

namespace simpler {

class AiCores final : public CoreArray {
public:
  explicit AiCores(const PlatformInfo &info) : first_aiv_(info.cores(CoreType::AIC)) {
    for (uint32_t type = 0; type < CORE_TYPE_COUNT; ++type)
      for (uint32_t i = 0; i < info.cores(static_cast<CoreType>(type)); ++i)
        cores_.push_back(std::make_unique<AiCore>(static_cast<uint32_t>(cores_.size()), static_cast<CoreType>(type),
                                                  info.core_memory_nbytes[type]));
  }

  // What TaskSlot::kernel stands for from now on; the functions must stay loaded.
  void use(const KernelFunction *kernels) { kernels_ = kernels; }

  uint32_t core_id(CoreType type, uint32_t index) const override {
    return type == CoreType::AIC ? index : first_aiv_ + index;
  }
  std::unique_ptr<std::string> run(CoreType type, uint32_t index, const TaskSlot &slot, uint32_t block) override {
    AiCore &core = *cores_[core_id(type, index)];
    core.block_idx = block;
    core.block_num = slot.block_num;
    return core.run(kernels_[slot.kernel], slot.arguments());
  }

private:
  const uint32_t first_aiv_;
  std::vector<std::unique_ptr<AiCore>> cores_; // AIC cores first
  const KernelFunction *kernels_ = nullptr;
};

} // namespace simpler
