// CallConfig: execution options of one call, copied by value to every level.
#pragma once

#include <cstddef>
#include <cstdint>

namespace simpler {

struct CallConfig {
  int32_t block_dim = 0;        // blocks of an SPMD launch that names no number; 0: as many as cores of its type in use
  int32_t aicpu_thread_num = 3; // AICPU threads to use
  int32_t enable_l2_swimlane = 0; // level of the timeline, 0 (off) to 4
  int32_t enable_dump_tensor = 0;
  int32_t enable_pmu = 0; // 0: off; otherwise the kind of event
  int32_t enable_dep_gen = 0;
  int32_t enable_scope_stats = 0;
  char output_prefix[1024] = {}; // where those write to; zero-terminated
  int32_t clusters = 0;          // that the run may use; 0: all of the chip
  uint64_t heap_ring_nbytes = 0; // of each heap ring in this run; 0: as the chip was opened with, which is the most
  uint32_t task_ring_slots = 0;  // in this run; 0: as the chip was opened with, which is the most
  uint32_t pad = 0;              // always 0
};

static_assert(sizeof(CallConfig) == 28 + 1024 + 20);
static_assert(offsetof(CallConfig, output_prefix) == 28);
static_assert(offsetof(CallConfig, clusters) == 1052);
static_assert(offsetof(CallConfig, heap_ring_nbytes) == 1056);
static_assert(offsetof(CallConfig, task_ring_slots) == 1064);

} // namespace simpler
