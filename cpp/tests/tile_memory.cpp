// Tiles, load, store, copy, full.
#include "tile_testing.h"

namespace simpler::testing {
namespace {

template <class T> std::vector<T> counted(size_t n) {
  std::vector<T> values(n);
  for (size_t i = 0; i < n; ++i)
    if constexpr (is_float<T>)
      values[i] = T(static_cast<float>(i % 97));
    else
      values[i] = static_cast<T>(i % 97);
  return values;
}

template <class T> class Memory : public ::testing::Test {};
TYPED_TEST_SUITE(Memory, NumberTypes);

TYPED_TEST(Memory, LoadTakesAWindowAndStorePutsItBackElsewhere) {
  TestCore core;
  constexpr uint32_t H = 9, W = 21;
  auto from = counted<TypeParam>(H * W);
  std::vector<TypeParam> to(H * W, TypeParam(static_cast<float>(1)));
  const auto source = tensor_of(from.data(), t::Tile<TypeParam, 4, 8>::dtype, H, W);
  const auto target = tensor_of(to.data(), t::Tile<TypeParam, 4, 8>::dtype, H, W);
  t::Tile<TypeParam, 4, 8> tile(core);
  t::load(core, tile, source, 6, 14, 3, 7, "here");
  expect_region(tile, 3, 7);
  t::store(core, target, tile, 1, 2, "here");
  for (uint32_t r = 0; r < H; ++r)
    for (uint32_t c = 0; c < W; ++c) {
      const bool inside = r >= 1 && r < 4 && c >= 2 && c < 9;
      const TypeParam expected = inside ? from[(r + 5) * W + c + 12] : TypeParam(static_cast<float>(1));
      expect_equal(to[r * W + c], expected, static_cast<int>(r), static_cast<int>(c));
    }
}

TYPED_TEST(Memory, AWholeTensorGoesThroughATile) {
  TestCore core;
  auto from = counted<TypeParam>(4 * 8);
  std::vector<TypeParam> to(4 * 8);
  t::Tile<TypeParam, 4, 8> tile(core), other(core);
  t::load(core, tile, tensor_of(from.data(), tile.dtype, 4, 8), 0, 0, 4, 8, "here");
  t::copy(other, tile);
  t::store(core, tensor_of(to.data(), tile.dtype, 4, 8), other, 0, 0, "here");
  for (int i = 0; i < 32; ++i)
    expect_equal(to[i], from[i], i / 8, i % 8);
}

TYPED_TEST(Memory, FullWritesTheValidRegionOnly) {
  TestCore core;
  t::Tile<TypeParam, 3, 5> tile(core, 2, 4);
  for (int i = 0; i < 15; ++i)
    tile.data[i] = TypeParam(static_cast<float>(1));
  t::full(tile, 7);
  expect_region(tile, 2, 4);
  for (int i = 0; i < 15; ++i)
    expect_equal(tile.data[i], TypeParam(static_cast<float>(i / 5 < 2 && i % 5 < 4 ? 7 : 1)), i / 5, i % 5);
}

TEST(Load, AnyNonZeroByteOfABoolTensorIsTrue) {
  TestCore core;
  unsigned char bytes[6] = {0, 1, 2, 255, 0, 128};
  t::Tile<bool, 2, 3> tile(core);
  t::load(core, tile, tensor_of(bytes, DataType::BOOL, 2, 3), 0, 0, 2, 3, "here");
  t::store(core, tensor_of(bytes, DataType::BOOL, 2, 3), tile, 0, 0, "here");
  EXPECT_EQ(std::vector<int>(bytes, bytes + 6), (std::vector<int>{0, 1, 1, 1, 0, 1}));
}

TEST(Load, NothingIsRightToo) {
  TestCore core;
  t::Tile<float, 2, 3> tile(core);
  t::load(core, tile, tensor_of(nullptr, DataType::FLOAT32, 0, 3), 0, 0, 0, 3, "here");
  expect_region(tile, 0, 3);
  t::store(core, tensor_of(nullptr, DataType::FLOAT32, 0, 3), tile, 0, 0, "here");
  t::Tile<float, 2, 3> result(core);
  t::exp(result, tile);
  expect_region(result, 0, 3);
}

TEST(Store, OutsideTheTensorSaysBothShapesAndTheOffset) {
  TestCore core;
  std::vector<float> values(1797 * 32, 1.0f);
  t::Tile<float, 64, 32> tile(core);
  t::full(tile, 2);
  const auto failure = failure_of(
      [&] { t::store(core, tensor_of(values.data(), DataType::FLOAT32, 1797, 32), tile, 1792, 0, "digits.py:12"); });
  EXPECT_EQ(failure.where, "digits.py:12");
  EXPECT_EQ(failure.message, "store of 64x32 at [1792, 0] leaves the tensor of 1797x32");
  EXPECT_EQ(values, std::vector<float>(1797 * 32, 1.0f)); // nothing was written
}

TEST(Load, EveryWayOutOfTheTensorFails) {
  TestCore core;
  std::vector<float> values(10 * 20);
  const auto tensor = tensor_of(values.data(), DataType::FLOAT32, 10, 20);
  t::Tile<float, 4, 8> tile(core);
  constexpr int64_t HUGE_ROW = std::numeric_limits<int64_t>::max(), LOWEST = std::numeric_limits<int64_t>::min();
  const int64_t offsets[][2] = {{7, 0}, {0, 13}, {-1, 0}, {0, -1}, {HUGE_ROW, 0}, {0, HUGE_ROW}, {LOWEST, 0}, {10, 20}};
  for (const auto &[row, col] : offsets) {
    EXPECT_NE(
        failure_of([&] { t::load(core, tile, tensor, row, col, 4, 8, "here"); }).message.find("leaves the tensor"),
        std::string::npos)
        << row << ", " << col;
    tile.rows = 4;
    tile.cols = 8;
    EXPECT_NE(failure_of([&] { t::store(core, tensor, tile, row, col, "here"); }).message.find("leaves the tensor"),
              std::string::npos)
        << row << ", " << col;
  }
}

TEST(Load, MoreThanTheTileHoldsFails) {
  TestCore core;
  std::vector<float> values(10 * 20);
  const auto tensor = tensor_of(values.data(), DataType::FLOAT32, 10, 20);
  t::Tile<float, 4, 8> tile(core);
  EXPECT_EQ(failure_of([&] { t::load(core, tile, tensor, 0, 0, 5, 8, "here"); }).message,
            "load of 5x8 does not fit a tile of 4x8");
  EXPECT_EQ(failure_of([&] { t::load(core, tile, tensor, 0, 0, 4, int64_t{1} << 32, "here"); }).message,
            "load of 4x4294967296 does not fit a tile of 4x8");
  EXPECT_EQ(failure_of([&] { t::load(core, tile, tensor, 0, 0, -1, 8, "here"); }).message,
            "load of -1x8 does not fit a tile of 4x8");
}

TEST(Load, AnotherElementTypeFails) {
  TestCore core;
  std::vector<double> values(4 * 8);
  t::Tile<float, 4, 8> tile(core);
  EXPECT_EQ(failure_of([&] {
              t::load(core, tile, tensor_of(values.data(), DataType::INT32, 4, 8), 0, 0, 4, 8, "here");
            }).message,
            "load of a float32 tile, but the tensor is int32");
  EXPECT_EQ(failure_of([&] {
              t::store(core, tensor_of(values.data(), DataType::FLOAT16, 4, 8), tile, 0, 0, "here");
            }).message,
            "store of a float32 tile, but the tensor is float16");
}

TEST(Load, AnotherRankFails) {
  TestCore core;
  std::vector<float> values(4 * 8);
  auto tensor = tensor_of(values.data(), DataType::FLOAT32, 4, 8);
  tensor.ndims = 3;
  tensor.shapes[2] = 1;
  t::Tile<float, 4, 8> tile(core);
  EXPECT_EQ(failure_of([&] { t::load(core, tile, tensor, 0, 0, 4, 8, "here"); }).message,
            "load needs a tensor of 2 dimensions, this one has 3");
}

TEST(Tile, AValidRegionThatDoesNotFitFails) {
  TestCore core;
  EXPECT_EQ(failure_of([&] { (void)t::Tile<float, 4, 8>(core, 5, 8); }).message,
            "a valid region of 5x8 does not fit a tile of 4x8");
  EXPECT_EQ(failure_of([&] { (void)t::Tile<float, 4, 8>(core, 4, -1); }).message,
            "a valid region of 4x-1 does not fit a tile of 4x8");
}

TEST(Tile, AFailingKernelGivesItsTilesBack) {
  TestCore core;
  failure_of([&] {
    t::Tile<float, 4, 8> a(core), b(core, 3, 8), out(core);
    t::full(a, 1);
    t::full(b, 1);
    t::add(out, a, b);
  });
  EXPECT_TRUE(core.live.empty());
}

} // namespace
} // namespace simpler::testing
