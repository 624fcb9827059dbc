// The frame that asks another process for one task: whose digest, how, with which arguments.
#pragma once

#include "simpler/call_config.h"
#include "simpler/task_args.h"

#include <cstring>

namespace simpler {

inline constexpr size_t DIGEST_NBYTES = 32;

struct TaskFrameHeader {
  uint8_t digest[DIGEST_NBYTES]; // of the callable
  CallConfig config;
  uint32_t args_nbytes; // of the argument blob, which follows this header
  uint32_t pad;         // always 0
};

static_assert(sizeof(TaskFrameHeader) == 1112);
static_assert(offsetof(TaskFrameHeader, config) == 32);
static_assert(offsetof(TaskFrameHeader, args_nbytes) == 1104);

inline constexpr size_t TASK_FRAME_ARGS_OFFSET = sizeof(TaskFrameHeader);

constexpr size_t task_frame_nbytes(const TaskArgsView &args) {
  return TASK_FRAME_ARGS_OFFSET + blob_nbytes(args.tensor_count, args.scalar_count);
}

// Writes the frame at `to`, which has room for task_frame_nbytes(args) bytes.
inline void write_task_frame(const uint8_t *digest, const CallConfig &config, const TaskArgsView &args, void *to) {
  auto *p = static_cast<char *>(to);
  const uint32_t args_nbytes[2] = {static_cast<uint32_t>(blob_nbytes(args.tensor_count, args.scalar_count)), 0};
  std::memcpy(p, digest, DIGEST_NBYTES);
  std::memcpy(p + offsetof(TaskFrameHeader, config), &config, sizeof config);
  std::memcpy(p + offsetof(TaskFrameHeader, args_nbytes), args_nbytes, sizeof args_nbytes);
  write_blob(args, p + TASK_FRAME_ARGS_OFFSET);
}

// Checks that a whole frame is there and copies its header. Gives what is wrong with it, nullptr when nothing is.
inline const char *read_task_frame(const void *frame, size_t nbytes, TaskFrameHeader &header) {
  if (nbytes < sizeof header)
    return "it is shorter than its header";
  std::memcpy(&header, frame, sizeof header);
  if (header.args_nbytes < 8 || header.args_nbytes > nbytes - sizeof header)
    return "its arguments reach beyond its end";
  if (header.config.output_prefix[sizeof header.config.output_prefix - 1] != 0)
    return "its output prefix has no end";
  return nullptr;
}

} // namespace simpler
