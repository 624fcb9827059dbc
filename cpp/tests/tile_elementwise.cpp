// Element by element: every operation on every type, against exact arithmetic rounded once (or wrapped).
#include "tile_testing.h"

namespace simpler::testing {
namespace {

// Whatever the operation, in exact arithmetic; bools count as 0 and 1.
template <class W> W exact(const std::string &op, W a, W b) {
  if (op == "add")
    return a + b;
  if (op == "sub")
    return a - b;
  if (op == "mul")
    return product(a, b);
  if (op == "div")
    return a / b;
  if (op == "maximum")
    return a > b ? a : b;
  return a < b ? a : b;
}

template <class T> class Binary : public ::testing::Test {
public:
  using Tile = t::Tile<T, ROWS, COLS>;

  using Scalar = std::conditional_t<is_float<T>, float, T>;
  using TileOp = void (*)(Tile &, const Tile &, const Tile &);
  using ScalarOp = void (*)(Tile &, const Tile &, const Scalar &);

  // Checks `op`, a generic lambda, as tile with tile, in place in either operand, and as tile with scalar.
  template <class F> void check(const std::string &name, F op) { compare(name, op, op); }

private:
  [[gnu::noinline]] void compare(const std::string &name, TileOp op, ScalarOp scalar_op) {
    std::mt19937_64 random(7);
    TestCore core;
    for (const Region region : REGIONS) {
      Tile a(core, region.rows, region.cols), b(core, region.rows, region.cols), out(core);
      Tile left(core), right(core), scaled(core);
      fill(a, random);
      fill(b, random, name == "div");
      const T scalar = sample<T>(random, name == "div");
      t::copy(left, a);
      t::copy(right, b);
      op(out, a, b);
      op(left, left, b);
      op(right, a, right);
      scalar_op(scaled, a, static_cast<Scalar>(scalar));
      for (const Tile *result : {&out, &left, &right, &scaled})
        expect_region(*result, region.rows, region.cols);
      for (int r = 0; r < region.rows; ++r)
        for (int c = 0; c < region.cols; ++c) {
          const int i = r * COLS + c;
          const T expected = rounded<T>(exact(name, wide(a.data[i]), wide(b.data[i])));
          expect_equal(out.data[i], expected, r, c);
          expect_equal(left.data[i], expected, r, c);
          expect_equal(right.data[i], expected, r, c);
          expect_equal(scaled.data[i], rounded<T>(exact(name, wide(a.data[i]), wide(scalar))), r, c);
        }
    }
  }
};

TYPED_TEST_SUITE(Binary, NumberTypes);

TYPED_TEST(Binary, Add) {
  this->check("add", [](auto &out, const auto &a, const auto &b) { t::add(out, a, b); });
}
TYPED_TEST(Binary, Sub) {
  this->check("sub", [](auto &out, const auto &a, const auto &b) { t::sub(out, a, b); });
}
TYPED_TEST(Binary, Mul) {
  this->check("mul", [](auto &out, const auto &a, const auto &b) { t::mul(out, a, b); });
}
TYPED_TEST(Binary, Div) {
  this->check("div", [](auto &out, const auto &a, const auto &b) { t::div(out, a, b); });
}
TYPED_TEST(Binary, Maximum) {
  this->check("maximum", [](auto &out, const auto &a, const auto &b) { t::maximum(out, a, b); });
}
TYPED_TEST(Binary, Minimum) {
  this->check("minimum", [](auto &out, const auto &a, const auto &b) { t::minimum(out, a, b); });
}

template <class T> using BinaryOfBools = Binary<T>;
TYPED_TEST_SUITE(BinaryOfBools, ::testing::Types<bool>);

TYPED_TEST(BinaryOfBools, AddIsOr) {
  this->check("add", [](auto &out, const auto &a, const auto &b) { t::add(out, a, b); });
}
TYPED_TEST(BinaryOfBools, MulIsAnd) {
  this->check("mul", [](auto &out, const auto &a, const auto &b) { t::mul(out, a, b); });
}
TYPED_TEST(BinaryOfBools, MaximumAndMinimum) {
  this->check("maximum", [](auto &out, const auto &a, const auto &b) { t::maximum(out, a, b); });
  this->check("minimum", [](auto &out, const auto &a, const auto &b) { t::minimum(out, a, b); });
}

template <class T> class Unary : public ::testing::Test {
public:
  using Tile = t::Tile<T, ROWS, COLS>;

  using Op = void (*)(Tile &, const Tile &);
  using Exact = decltype(wide(T{}));

  // Checks `op`, also in place.
  [[gnu::noinline]] void check(Op op, Exact (*reference)(Exact)) {
    std::mt19937_64 random(11);
    TestCore core;
    for (const Region region : REGIONS) {
      Tile a(core, region.rows, region.cols), out(core), same(core);
      fill(a, random);
      t::copy(same, a);
      op(out, a);
      op(same, same);
      expect_region(out, region.rows, region.cols);
      expect_region(same, region.rows, region.cols);
      for (int r = 0; r < region.rows; ++r)
        for (int c = 0; c < region.cols; ++c) {
          const int i = r * COLS + c;
          expect_equal(out.data[i], rounded<T>(reference(wide(a.data[i]))), r, c);
          expect_equal(same.data[i], out.data[i], r, c);
        }
    }
  }
};

TYPED_TEST_SUITE(Unary, NumberTypes);

TYPED_TEST(Unary, Neg) {
  this->check([](auto &out, const auto &a) { t::neg(out, a); }, [](auto x) { return -x; });
}
TYPED_TEST(Unary, Abs) {
  this->check([](auto &out, const auto &a) { t::abs(out, a); }, [](auto x) { return x < 0 ? -x : x; });
}
TYPED_TEST(Unary, Relu) {
  this->check([](auto &out, const auto &a) { t::relu(out, a); }, [](auto x) { return x > 0 ? x : x - x; });
}

template <class T> using FloatUnary = Unary<T>;
TYPED_TEST_SUITE(FloatUnary, FloatTypes);

TYPED_TEST(FloatUnary, SqrtIsCorrectlyRounded) {
  this->check([](auto &out, const auto &a) { t::sqrt(out, a); }, [](double x) { return std::sqrt(x); });
}
TYPED_TEST(FloatUnary, RecipIsCorrectlyRounded) {
  this->check([](auto &out, const auto &a) { t::recip(out, a); }, [](double x) { return 1.0 / x; });
}

template <class T> class Special : public ::testing::Test {
public:
  // op over a row of values, as floats.
  template <class F>
  static std::vector<float> run(F op, std::initializer_list<float> a, std::initializer_list<float> b) {
    TestCore core;
    t::Tile<T, 1, 8> x(core, 1, static_cast<int>(a.size())), y(core, 1, static_cast<int>(b.size())), out(core);
    int i = 0;
    for (float value : a)
      x.data[i++] = T(value);
    i = 0;
    for (float value : b)
      y.data[i++] = T(value);
    op(out, x, y);
    std::vector<float> result;
    for (int c = 0; c < out.cols; ++c)
      result.push_back(static_cast<float>(out.data[c]));
    return result;
  }
};
TYPED_TEST_SUITE(Special, FloatTypes);

constexpr float NOT = std::numeric_limits<float>::quiet_NaN(), INF = HUGE_VALF;

TYPED_TEST(Special, MaximumAndMinimumGiveNaNWhereEitherIs) {
  const auto high = this->run([](auto &o, auto &a, auto &b) { t::maximum(o, a, b); }, {NOT, 1, NOT, -INF, INF},
                              {1, NOT, NOT, 1, NOT});
  EXPECT_TRUE(std::isnan(high[0]) && std::isnan(high[1]) && std::isnan(high[2]) && std::isnan(high[4]));
  EXPECT_EQ(high[3], 1.0f);
  const auto low = this->run([](auto &o, auto &a, auto &b) { t::minimum(o, a, b); }, {NOT, 1, NOT, -INF, -INF},
                             {1, NOT, NOT, 1, NOT});
  EXPECT_TRUE(std::isnan(low[0]) && std::isnan(low[1]) && std::isnan(low[2]) && std::isnan(low[4]));
  EXPECT_EQ(low[3], -INF);
}

TYPED_TEST(Special, DivisionByZeroGivesInfinityOrNaN) {
  const auto out = this->run([](auto &o, auto &a, auto &b) { t::div(o, a, b); }, {1, -1, 0, INF}, {0, 0, 0, INF});
  EXPECT_EQ(out[0], INF);
  EXPECT_EQ(out[1], -INF);
  EXPECT_TRUE(std::isnan(out[2]) && std::isnan(out[3]));
}

TYPED_TEST(Special, ReluKeepsNaNAndNegKeepsTheSignOfZero) {
  const auto relu = this->run([](auto &o, auto &a, auto &) { t::relu(o, a); }, {NOT, -INF, INF, -0.0f}, {});
  EXPECT_TRUE(std::isnan(relu[0]));
  EXPECT_EQ(relu[1], 0.0f);
  EXPECT_EQ(relu[2], INF);
  EXPECT_EQ(relu[3], 0.0f);
  const auto neg = this->run([](auto &o, auto &a, auto &) { t::neg(o, a); }, {0.0f, -0.0f, INF}, {});
  EXPECT_TRUE(std::signbit(neg[0]) && !std::signbit(neg[1]) && neg[2] == -INF);
}

TYPED_TEST(Special, RootsAndReciprocalsAtTheEdges) {
  const auto root = this->run([](auto &o, auto &a, auto &) { t::sqrt(o, a); }, {-1, 0, INF, NOT, 4}, {});
  EXPECT_TRUE(std::isnan(root[0]) && root[1] == 0.0f && root[2] == INF && std::isnan(root[3]) && root[4] == 2.0f);
  const auto inverse = this->run([](auto &o, auto &a, auto &) { t::rsqrt(o, a); }, {-1, 0, INF, NOT, 4}, {});
  EXPECT_TRUE(std::isnan(inverse[0]) && inverse[1] == INF && inverse[2] == 0.0f && std::isnan(inverse[3]));
  EXPECT_EQ(inverse[4], 0.5f);
  const auto recip = this->run([](auto &o, auto &a, auto &) { t::recip(o, a); }, {0, -0.0f, INF, NOT, 4}, {});
  EXPECT_TRUE(recip[0] == INF && recip[1] == -INF && recip[2] == 0.0f && std::isnan(recip[3]) && recip[4] == 0.25f);
}

template <class T> class IntegerDivision : public ::testing::Test {};
TYPED_TEST_SUITE(IntegerDivision, IntegerTypes);

TYPED_TEST(IntegerDivision, ByZeroFailsTheKernelNamingTheElement) {
  TestCore core;
  t::Tile<TypeParam, 3, 20> a(core), b(core), out(core);
  t::full(a, 6);
  t::full(b, 2);
  b.data[2 * 20 + 17] = 0;
  const auto failure = failure_of([&] { t::div(out, a, b); });
  EXPECT_EQ(failure.where, "div");
  EXPECT_EQ(failure.message, "integer division by zero: element [2, 17] of the divisor");
  EXPECT_EQ(failure_of([&] { t::div(out, a, TypeParam{0}); }).message, "integer division by zero: the divisor is 0");
}

TYPED_TEST(IntegerDivision, TruncatesTowardZeroAndTheSmallestByMinusOneWraps) {
  TestCore core;
  t::Tile<TypeParam, 1, 3> a(core), b(core), out(core);
  constexpr TypeParam smallest = std::numeric_limits<TypeParam>::min();
  const auto minus = [](int value) { return static_cast<TypeParam>(-value); };
  a.data[0] = minus(7);
  a.data[1] = 7;
  a.data[2] = smallest;
  b.data[0] = 2;
  b.data[1] = minus(2);
  b.data[2] = minus(1);
  t::div(out, a, b);
  EXPECT_EQ(out.data[0], static_cast<TypeParam>(minus(7) / 2));
  EXPECT_EQ(out.data[1], static_cast<TypeParam>(7 / minus(2)));
  EXPECT_EQ(out.data[2], std::is_signed_v<TypeParam> ? smallest : TypeParam{0});
}

TEST(Elementwise, OperandsWithDifferentRegionsFail) {
  TestCore core;
  t::Tile<float, 4, 8> a(core, 4, 8), b(core, 4, 7), out(core);
  t::full(a, 1);
  t::full(b, 1);
  const auto failure = failure_of([&] { t::mul(out, a, b); });
  EXPECT_EQ(failure.where, "mul");
  EXPECT_EQ(failure.message, "the valid regions of the operands are 4x8 and 4x7; they must be equal");
}

// Products are rounded before they are added, however the optimiser could fuse the two operations.
template <int N> void expect_two_roundings() {
  TestCore core;
  t::Tile<float, N, N> a(core), b(core), c(core), product(core), sum(core);
  const float x = 1.0f + 0x1p-12f;
  t::full(a, x);
  t::full(b, x);
  t::full(c, -1.0f);
  t::mul(product, a, b);
  t::add(sum, product, c);
  volatile float rounded_product = x * x;
  EXPECT_EQ(sum.data[N * N - 1], rounded_product - 1.0f);
  EXPECT_NE(sum.data[N * N - 1], std::fma(x, x, -1.0f));
}

TEST(Elementwise, EveryOperationRoundsItsResult) {
  expect_two_roundings<1>();
  expect_two_roundings<4>();
  expect_two_roundings<32>();
}

TEST(Elementwise, AScalarIsRoundedToTheTypeOfTheTileFirst) {
  TestCore core;
  t::Tile<BFloat16, 1, 1> a(core), out(core);
  t::full(a, 1);
  t::mul(out, a, 1.00390625f); // half way between 1 and the next bfloat16: a tie, to even
  EXPECT_EQ(static_cast<float>(out.data[0]), 1.0f);
  t::Tile<uint8_t, 1, 1> bytes(core), sum(core);
  t::full(bytes, 250);
  t::add(sum, bytes, 10);
  EXPECT_EQ(sum.data[0], 4);
}

} // namespace
} // namespace simpler::testing
