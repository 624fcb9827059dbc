// ContinuousTensor, the argument blob and the task frame: what crosses processes as plain bytes.
#include "simpler/task_frame.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace simpler {
namespace {

ContinuousTensor tensor(std::initializer_list<uint32_t> shape, DataType dtype = DataType::FLOAT32) {
  ContinuousTensor t{};
  t.data = 0x1000;
  t.dtype = static_cast<uint8_t>(dtype);
  for (uint32_t extent : shape)
    t.shapes[t.ndims++] = extent;
  return t;
}

TEST(Tensor, LayoutIsWhatOtherProcessesExpect) {
  ContinuousTensor t = tensor({2, 3}, DataType::BOOL);
  t.child_memory = 1;
  const auto *bytes = reinterpret_cast<const uint8_t *>(&t);
  EXPECT_EQ(sizeof t, 40u);
  EXPECT_EQ(bytes[8], 2);
  EXPECT_EQ(bytes[28], 2);
  EXPECT_EQ(bytes[32], 11);
  EXPECT_EQ(bytes[33], 1);
}

TEST(Tensor, SizesFollowFromExtentsAndDtype) {
  EXPECT_EQ(nbytes_of(tensor({})), 4u);
  EXPECT_EQ(nbytes_of(tensor({3, 5}, DataType::FLOAT16)), 30u);
  EXPECT_EQ(nbytes_of(tensor({3, 0, 5}, DataType::INT64)), 0u);
}

TEST(Tensor, ImpossibleOnesAreInvalid) {
  EXPECT_TRUE(is_valid(tensor({1, 2, 3, 4, 5})));
  EXPECT_FALSE(is_valid(tensor({1u << 31, 1u << 31, 4})));
  EXPECT_FALSE(is_valid(tensor({~0u, ~0u, ~0u, ~0u, ~0u})));
  EXPECT_TRUE(is_valid(tensor({~0u, ~0u, ~0u, ~0u, 0})));
  ContinuousTensor t = tensor({1});
  t.ndims = 6;
  EXPECT_FALSE(is_valid(t));
  t = tensor({1});
  t.dtype = DATA_TYPE_COUNT;
  EXPECT_FALSE(is_valid(t));
}

class Blob : public ::testing::Test {
protected:
  Blob() {
    tensors = {tensor({4, 4}), tensor({7}, DataType::INT8)};
    tensors[1].child_memory = 1;
    scalars = {42, ~0ULL, 0};
    view = {2, 3, tensors.data(), scalars.data()};
    bytes.resize(blob_nbytes(2, 3) / 8);
    nbytes = write_blob(view, bytes.data());
  }
  std::vector<ContinuousTensor> tensors;
  std::vector<uint64_t> scalars;
  TaskArgsView view;
  std::vector<uint64_t> bytes;
  size_t nbytes;
};

TEST_F(Blob, KeepsEveryFieldOfEveryTensor) {
  TaskArgsView got{};
  ASSERT_EQ(read_blob(bytes.data(), nbytes, got), nullptr);
  ASSERT_EQ(got.tensor_count, 2);
  ASSERT_EQ(got.scalar_count, 3);
  EXPECT_EQ(std::memcmp(got.tensors, tensors.data(), 80), 0);
  EXPECT_EQ(got.tensors[1].child_memory, 1); // once lost on the way
  EXPECT_EQ(std::memcmp(got.scalars, scalars.data(), 24), 0);
}

TEST_F(Blob, IsReadInPlace) {
  TaskArgsView got{};
  ASSERT_EQ(read_blob(bytes.data(), nbytes, got), nullptr);
  EXPECT_EQ(reinterpret_cast<const char *>(got.tensors), reinterpret_cast<const char *>(bytes.data()) + 8);
}

TEST_F(Blob, TruncatedAnywhereIsRefused) {
  for (size_t n = 0; n < nbytes; ++n) {
    TaskArgsView got{};
    EXPECT_NE(read_blob(bytes.data(), n, got), nullptr) << n;
  }
}

TEST_F(Blob, AtAnOddAddressIsRefused) {
  TaskArgsView got{};
  EXPECT_NE(read_blob(reinterpret_cast<const char *>(bytes.data()) + 4, nbytes - 4, got), nullptr);
}

TEST_F(Blob, RandomBytesNeverReachOutside) {
  std::mt19937 random(1);
  int accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    std::vector<uint64_t> noise(random() % 30);
    for (auto &word : noise)
      word = random() % 3 == 0 ? random() : random() % 4;
    TaskArgsView got{};
    if (read_blob(noise.data(), noise.size() * 8, got) != nullptr)
      continue;
    ++accepted;
    const auto *end = reinterpret_cast<const char *>(noise.data() + noise.size());
    EXPECT_LE(reinterpret_cast<const char *>(got.scalars + got.scalar_count), end);
  }
  EXPECT_GT(accepted, 0);
}

TEST(TaskFrame, KeepsDigestConfigAndArguments) {
  uint8_t digest[DIGEST_NBYTES];
  for (size_t i = 0; i < sizeof digest; ++i)
    digest[i] = static_cast<uint8_t>(i * 3);
  CallConfig config;
  config.block_dim = 5;
  std::strcpy(config.output_prefix, "out/run");
  const ContinuousTensor t = tensor({9});
  const uint64_t scalar = 11;
  const TaskArgsView args{1, 1, &t, &scalar};
  std::vector<uint64_t> buffer(task_frame_nbytes(args) / 8);
  write_task_frame(digest, config, args, buffer.data());

  TaskFrameHeader header;
  ASSERT_EQ(read_task_frame(buffer.data(), buffer.size() * 8, header), nullptr);
  EXPECT_EQ(std::memcmp(header.digest, digest, sizeof digest), 0);
  EXPECT_EQ(header.config.block_dim, 5);
  EXPECT_STREQ(header.config.output_prefix, "out/run");
  TaskArgsView got{};
  const char *blob = reinterpret_cast<const char *>(buffer.data()) + TASK_FRAME_ARGS_OFFSET;
  ASSERT_EQ(read_blob(blob, header.args_nbytes, got), nullptr);
  EXPECT_EQ(got.scalars[0], 11u);

  for (size_t n = 0; n < buffer.size() * 8; ++n)
    EXPECT_NE(read_task_frame(buffer.data(), n, header), nullptr) << n;
}

TEST(TaskFrame, AnEndlessOutputPrefixIsRefused) {
  const uint8_t digest[DIGEST_NBYTES] = {};
  CallConfig config;
  std::memset(config.output_prefix, 'x', sizeof config.output_prefix);
  const TaskArgsView args{0, 0, nullptr, nullptr};
  std::vector<uint64_t> buffer(task_frame_nbytes(args) / 8);
  write_task_frame(digest, config, args, buffer.data());
  TaskFrameHeader header;
  EXPECT_NE(read_task_frame(buffer.data(), buffer.size() * 8, header), nullptr);
}

} // namespace
} // namespace simpler
