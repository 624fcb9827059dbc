// CallConfig: execution options of one call, copied by value to every level.
#pragma once

#include <cstddef>
#include <cstdint>

namespace simpler {

struct CallConfig {
  int32_t block_dim = 0;          // clusters to use; 0: all of them
  int32_t aicpu_thread_num = 3;   // AICPU threads to use
  int32_t enable_l2_swimlane = 0; // level of the timeline, 0 (off) to 4
  int32_t enable_dump_tensor = 0;
  int32_t enable_pmu = 0; // 0: off; otherwise the kind of event
  int32_t enable_dep_gen = 0;
  int32_t enable_scope_stats = 0;
  char output_prefix[1024] = {}; // where those write to; zero-terminated
};

static_assert(sizeof(CallConfig) == 28 + 1024);
static_assert(offsetof(CallConfig, output_prefix) == 28);

} // namespace simpler
