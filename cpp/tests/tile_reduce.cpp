// Sums, maxima and minima along rows and columns.
#include "tile_testing.h"

#include <functional>

namespace simpler::testing {
namespace {

template <class T> class Reduce : public ::testing::Test {
public:
  using Tile = t::Tile<T, ROWS, COLS>;
  using Column = t::Tile<T, ROWS, 1>;
  using Row = t::Tile<T, 1, COLS>;
  using Exact = decltype(wide(T{}));
  using Step = Exact (*)(Exact, Exact);

  // Checks a reduction whose result is exact (maxima, wrapping sums), for every region that has something to reduce.
  void check(void (*rows)(Column &, const Tile &), void (*cols)(Row &, const Tile &), Step step) {
    std::mt19937_64 random(5);
    TestCore core;
    for (const Region region : REGIONS) {
      if (region.rows == 0 || region.cols == 0)
        continue;
      Tile a(core, region.rows, region.cols);
      Column column(core);
      Row row(core);
      fill(a, random);
      rows(column, a);
      cols(row, a);
      expect_region(column, region.rows, 1);
      expect_region(row, 1, region.cols);
      for (int r = 0; r < region.rows; ++r) {
        Exact expected = wide(a.data[r * COLS]);
        for (int c = 1; c < region.cols; ++c)
          expected = step(expected, wide(a.data[r * COLS + c]));
        expect_equal(column.data[r], rounded<T>(expected), r, 0);
      }
      for (int c = 0; c < region.cols; ++c) {
        Exact expected = wide(a.data[c]);
        for (int r = 1; r < region.rows; ++r)
          expected = step(expected, wide(a.data[r * COLS + c]));
        expect_equal(row.data[c], rounded<T>(expected), 0, c);
      }
    }
  }
};

TYPED_TEST_SUITE(Reduce, AllTypes);

TYPED_TEST(Reduce, Max) {
  this->check(t::row_max, t::col_max, [](auto a, auto b) { return a > b ? a : b; });
}
TYPED_TEST(Reduce, Min) {
  this->check(t::row_min, t::col_min, [](auto a, auto b) { return a < b ? a : b; });
}

template <class T> using IntegerSum = Reduce<T>;
TYPED_TEST_SUITE(IntegerSum, IntegerTypes);
TYPED_TEST(IntegerSum, Wraps) {
  this->check(t::row_sum, t::col_sum, [](auto a, auto b) { return a + b; });
}

template <class T> class FloatSum : public ::testing::Test {
public:
  // Half a unit of the type, relative: what its own rounding costs.
  static double rounding() {
    return std::is_same_v<T, float> ? 0x1p-24 : std::is_same_v<T, Float16> ? 0x1p-11 : 0x1p-8;
  }
  // The sum of n floats in 16 chains, then pairwise, then rounded to T.
  static double tolerance(double magnitudes, double exact, int n) {
    return magnitudes * 0x1p-24 * (n / 4.0 + 5) + std::fabs(exact) * rounding();
  }
};
TYPED_TEST_SUITE(FloatSum, FloatTypes);

TYPED_TEST(FloatSum, IsAsGoodAsAFloatAccumulatorAllows) {
  std::mt19937_64 random(3);
  TestCore core;
  for (const Region region : REGIONS) {
    t::Tile<TypeParam, ROWS, COLS> a(core, region.rows, region.cols);
    t::Tile<TypeParam, ROWS, 1> column(core);
    t::Tile<TypeParam, 1, COLS> row(core);
    fill(a, random);
    t::row_sum(column, a);
    t::col_sum(row, a);
    expect_region(column, region.rows, 1);
    expect_region(row, 1, region.cols);
    for (int r = 0; r < region.rows; ++r) {
      double exact = 0, magnitudes = 0;
      for (int c = 0; c < region.cols; ++c) {
        exact += wide(a.data[r * COLS + c]);
        magnitudes += std::fabs(wide(a.data[r * COLS + c]));
      }
      EXPECT_NEAR(wide(column.data[r]), exact, this->tolerance(magnitudes, exact, region.cols));
    }
    for (int c = 0; c < region.cols; ++c) {
      double exact = 0, magnitudes = 0;
      for (int r = 0; r < region.rows; ++r) {
        exact += wide(a.data[r * COLS + c]);
        magnitudes += std::fabs(wide(a.data[r * COLS + c]));
      }
      EXPECT_NEAR(wide(row.data[c]), exact, this->tolerance(magnitudes, exact, region.rows));
    }
  }
}

TEST(RowSum, LosesFarLessThanOneRunningSum) {
  TestCore core;
  t::Tile<float, 1, 4096> a(core);
  t::Tile<float, 1, 1> sum(core);
  t::full(a, 0.1f);
  t::row_sum(sum, a);
  volatile float running = 0.0f;
  for (int i = 0; i < 4096; ++i)
    running = running + 0.1f;
  const double exact = 4096 * static_cast<double>(0.1f);
  EXPECT_LT(std::fabs(sum.data[0] - exact), std::fabs(running - exact) / 10);
}

TEST(RowSum, OfSixteenBitFloatsIsNotHeldBackByTheirPrecision) {
  // In bfloat16 itself 256 + 1 is 256: the sum would stop there.
  TestCore core;
  t::Tile<BFloat16, 1, 1024> a(core);
  t::Tile<BFloat16, 1, 1> sum(core);
  t::full(a, 1);
  t::row_sum(sum, a);
  EXPECT_EQ(static_cast<float>(sum.data[0]), 1024.0f);
}

template <class T> class ReduceNaN : public ::testing::Test {};
TYPED_TEST_SUITE(ReduceNaN, FloatTypes);

TYPED_TEST(ReduceNaN, GoesThroughWhereverItStands) {
  TestCore core;
  const TypeParam nan(std::numeric_limits<float>::quiet_NaN());
  for (int at : {0, 1, 15, 16, 17, 31, 32, 36}) {
    t::Tile<TypeParam, 1, 40> a(core, 1, 37);
    t::Tile<TypeParam, 1, 1> out(core);
    t::Tile<TypeParam, 40, 1> column(core, 37, 1);
    t::full(a, 1);
    a.data[at] = nan;
    t::transpose(column, a);
    for (auto reduce : {t::row_max<TypeParam, 1, 40>, t::row_min<TypeParam, 1, 40>, t::row_sum<TypeParam, 1, 40>}) {
      reduce(out, a);
      EXPECT_TRUE(std::isnan(static_cast<float>(out.data[0]))) << at;
    }
    for (auto reduce : {t::col_max<TypeParam, 40, 1>, t::col_min<TypeParam, 40, 1>, t::col_sum<TypeParam, 40, 1>}) {
      reduce(out, column);
      EXPECT_TRUE(std::isnan(static_cast<float>(out.data[0]))) << at;
    }
  }
}

TYPED_TEST(ReduceNaN, InfinitiesAreMaximaAndMinima) {
  TestCore core;
  t::Tile<TypeParam, 1, 20> a(core);
  t::Tile<TypeParam, 1, 1> out(core);
  t::full(a, -HUGE_VALF);
  t::row_max(out, a);
  EXPECT_EQ(static_cast<float>(out.data[0]), -HUGE_VALF);
  t::full(a, HUGE_VALF);
  t::row_min(out, a);
  EXPECT_EQ(static_cast<float>(out.data[0]), HUGE_VALF);
}

TEST(Reduce, OfNothingFailsForMaximaAndIsZeroForSums) {
  TestCore core;
  t::Tile<int32_t, 4, 8> no_cols(core, 3, 0), no_rows(core, 0, 5);
  t::Tile<int32_t, 4, 1> column(core);
  t::Tile<int32_t, 1, 8> row(core);
  const auto failure = failure_of([&] { t::row_max(column, no_cols); });
  EXPECT_EQ(failure.where, "row_max");
  EXPECT_EQ(failure.message, "the valid region is 3x0: there is nothing to reduce");
  EXPECT_EQ(failure_of([&] { t::col_min(row, no_rows); }).message,
            "the valid region is 0x5: there is nothing to reduce");
  t::row_sum(column, no_cols);
  EXPECT_TRUE(column.rows == 3 && column.data[0] == 0 && column.data[2] == 0);
  t::col_sum(row, no_rows);
  EXPECT_TRUE(row.cols == 5 && row.data[0] == 0 && row.data[4] == 0);
  t::row_max(column, no_rows); // no rows, no results: nothing is missing
  EXPECT_EQ(column.rows, 0);
}

} // namespace
} // namespace simpler::testing
