// matmul and matmul_acc against products in double or 128-bit integers.
#include "tile_testing.h"

namespace simpler::testing {
namespace {

// Element types of operands and result, tile shapes, valid extents.
template <class ResultType, class Type, int RowCount, int Depth, int ColCount> struct Product {
  using O = ResultType;
  using T = Type;
  static constexpr int M = RowCount, K = Depth, N = ColCount;
};

template <class P> class Matmul : public ::testing::Test {
public:
  using O = typename P::O;
  using T = typename P::T;
  static constexpr int M = P::M, K = P::K, N = P::N;

  static double tolerance(double magnitudes, double exact, int depth) {
    const double rounding = std::is_same_v<O, Float16> ? 0x1p-11 : std::is_same_v<O, BFloat16> ? 0x1p-8 : 0x1p-24;
    return magnitudes * 0x1p-24 * (depth + 1) + std::fabs(exact) * rounding;
  }

  // The product of the valid regions [m, k] x [k, n], added to `acc` if there is one.
  static void compare(const t::Tile<O, M, N> &out, const std::vector<O> *acc, const t::Tile<T, M, K> &a,
                      const t::Tile<T, K, N> &b) {
    expect_region(out, a.rows, b.cols);
    for (int i = 0; i < a.rows; ++i)
      for (int j = 0; j < b.cols; ++j) {
        auto exact = acc != nullptr ? wide((*acc)[static_cast<size_t>(i * N + j)]) : decltype(wide(O{})){0};
        double magnitudes = std::fabs(static_cast<double>(exact));
        for (int k = 0; k < a.cols; ++k) {
          const auto term = product(wide(a.data[i * K + k]), wide(b.data[k * N + j]));
          exact = total(exact, term);
          magnitudes += std::fabs(static_cast<double>(term));
        }
        if constexpr (is_float<O>)
          ASSERT_NEAR(wide(out.data[i * N + j]), exact, tolerance(magnitudes, exact, a.cols)) << i << ", " << j;
        else
          ASSERT_EQ(out.data[i * N + j], rounded<O>(exact)) << i << ", " << j;
      }
  }

  void check(int m, int k, int n) {
    std::mt19937_64 random(13);
    TestCore core;
    t::Tile<T, M, K> a(core, m, k);
    t::Tile<T, K, N> b(core, k, n);
    t::Tile<O, M, N> out(core), acc(core, m, n), sum(core);
    fill(a, random);
    fill(b, random);
    fill(acc, random);
    t::matmul(out, a, b);
    compare(out, nullptr, a, b);
    const std::vector<O> before(acc.data, acc.data + M * N);
    t::matmul_acc(sum, acc, a, b);
    compare(sum, &before, a, b);
    t::matmul_acc(acc, acc, a, b);
    compare(acc, &before, a, b);
    for (int i = 0; i < m; ++i) // what is computed does not depend on where
      for (int j = 0; j < n; ++j)
        expect_equal(acc.data[i * N + j], sum.data[i * N + j], i, j);
  }
};

// Shapes around the blocks: smaller than one, one and a bit, a bit less than two; one column, one row.
#ifdef SIMPLER_ALL_TYPES
using Products = ::testing::Types<
    Product<float, float, 16, 24, 32>, Product<float, float, 13, 37, 47>, Product<float, float, 64, 64, 10>,
    Product<float, float, 1, 33, 100>, Product<float, float, 29, 8, 1>, Product<float, float, 1, 1, 1>,
    Product<float, float, 40, 16, 63>, Product<float, Float16, 13, 300, 47>, Product<Float16, Float16, 14, 20, 33>,
    Product<float, BFloat16, 13, 129, 47>, Product<BFloat16, BFloat16, 7, 5, 10>, Product<int32_t, int8_t, 13, 37, 47>,
    Product<int32_t, uint8_t, 5, 17, 18>, Product<int32_t, int16_t, 13, 37, 20>, Product<int32_t, int32_t, 13, 37, 47>,
    Product<int64_t, int64_t, 13, 37, 23>, Product<uint64_t, uint64_t, 3, 4, 5>>;
#else
using Products = ::testing::Types<Product<float, float, 16, 24, 32>, Product<float, float, 13, 37, 47>,
                                  Product<float, float, 1, 33, 100>, Product<float, float, 29, 8, 1>,
                                  Product<float, Float16, 13, 129, 47>, Product<BFloat16, BFloat16, 7, 5, 10>,
                                  Product<int32_t, int8_t, 13, 37, 47>, Product<int64_t, int64_t, 13, 37, 23>>;
#endif
TYPED_TEST_SUITE(Matmul, Products);

TYPED_TEST(Matmul, OfWholeTiles) { this->check(TypeParam::M, TypeParam::K, TypeParam::N); }

TYPED_TEST(Matmul, OfTails) {
  const auto most = [](int n) { return n - n / 4; };
  this->check(most(TypeParam::M), most(TypeParam::K), most(TypeParam::N));
  this->check(most(TypeParam::M), TypeParam::K, TypeParam::N);
  this->check(TypeParam::M, TypeParam::K, most(TypeParam::N));
  this->check(1, 1, 1);
}

TYPED_TEST(Matmul, OfNothingIsNothingOrZero) {
  this->check(0, TypeParam::K, TypeParam::N);
  this->check(TypeParam::M, 0, TypeParam::N); // a sum of no products
  this->check(TypeParam::M, TypeParam::K, 0);
}

TEST(Matmul, ResultsDoNotDependOnTheShapeOfTheTiles) {
  // The same 9 x 40 by 40 x 21 product in tiles whose blocks fall differently: equal to the last bit.
  TestCore core;
  std::mt19937_64 random(17);
  t::Tile<float, 9, 40> a(core);
  t::Tile<float, 40, 21> b(core);
  t::Tile<float, 9, 21> c(core);
  t::Tile<float, 50, 64> a_large(core, 9, 40);
  t::Tile<float, 64, 80> b_large(core, 40, 21);
  t::Tile<float, 50, 80> c_large(core);
  fill(a, random);
  fill(b, random);
  for (int i = 0; i < 9; ++i)
    for (int k = 0; k < 40; ++k)
      a_large.data[i * 64 + k] = a.data[i * 40 + k];
  for (int k = 0; k < 40; ++k)
    for (int j = 0; j < 21; ++j)
      b_large.data[k * 80 + j] = b.data[k * 21 + j];
  // What lies outside the valid regions takes no part.
  for (int k = 0; k < 64; ++k)
    for (int j = 0; j < 80; ++j)
      if (k >= 40 || j >= 21)
        b_large.data[k * 80 + j] = std::numeric_limits<float>::quiet_NaN();
  t::matmul(c, a, b);
  t::matmul(c_large, a_large, b_large);
  for (int i = 0; i < 9; ++i)
    for (int j = 0; j < 21; ++j)
      EXPECT_EQ(c.data[i * 21 + j], c_large.data[i * 80 + j]) << i << ", " << j;
}

TEST(Matmul, NaNAndInfinityGoThrough) {
  TestCore core;
  t::Tile<float, 2, 2> a(core), b(core), c(core);
  const float left[] = {0.0f, 1.0f, 1.0f, 1.0f}, right[] = {HUGE_VALF, 1.0f, 1.0f, 1.0f};
  __builtin_memcpy(a.data, left, sizeof left);
  __builtin_memcpy(b.data, right, sizeof right);
  t::matmul(c, a, b);
  EXPECT_TRUE(std::isnan(c.data[0])); // 0 times infinity
  EXPECT_EQ(c.data[1], 1.0f);
  EXPECT_EQ(c.data[2], HUGE_VALF);
}

TEST(Matmul, RegionsThatDoNotMatchFail) {
  TestCore core;
  t::Tile<float, 4, 8> a(core, 4, 7);
  t::Tile<float, 8, 3> b(core);
  t::Tile<float, 4, 3> out(core), acc(core, 3, 3);
  t::full(a, 1);
  t::full(b, 1);
  auto failure = failure_of([&] { t::matmul(out, a, b); });
  EXPECT_EQ(failure.where, "matmul");
  EXPECT_EQ(failure.message, "the valid regions are 4x7 and 8x3: 7 columns don't match 8 rows");
  b.rows = 7;
  failure = failure_of([&] { t::matmul_acc(out, acc, a, b); });
  EXPECT_EQ(failure.where, "matmul_acc");
  EXPECT_EQ(failure.message, "the product is 4x3, but the valid region it is added to is 3x3");
}

} // namespace
} // namespace simpler::testing
