// A tile with a column or a row.
#include "tile_testing.h"

namespace simpler::testing {
namespace {

template <class T> class Broadcast : public ::testing::Test {
public:
  using Tile = t::Tile<T, ROWS, COLS>;
  using Column = t::Tile<T, ROWS, 1>;
  using Row = t::Tile<T, 1, COLS>;
  using Exact = decltype(wide(T{}));

  void check(void (*with_column)(Tile &, const Tile &, const Column &),
             void (*with_row)(Tile &, const Tile &, const Row &), Exact (*exact)(Exact, Exact)) {
    std::mt19937_64 random(9);
    TestCore core;
    for (const Region region : REGIONS) {
      Tile a(core, region.rows, region.cols), out(core), same(core);
      Column column(core, region.rows, 1);
      Row row(core, 1, region.cols);
      fill(a, random);
      fill(column, random, true);
      fill(row, random, true);
      with_column(out, a, column);
      compare(out, a, [&](int r, int) { return column.data[r]; }, exact);
      t::copy(same, a);
      with_column(same, same, column);
      compare(same, a, [&](int r, int) { return column.data[r]; }, exact);
      with_row(out, a, row);
      compare(out, a, [&](int, int c) { return row.data[c]; }, exact);
      t::copy(same, a);
      with_row(same, same, row);
      compare(same, a, [&](int, int c) { return row.data[c]; }, exact);
    }
  }

private:
  template <class F> static void compare(const Tile &out, const Tile &a, F other, Exact (*exact)(Exact, Exact)) {
    expect_region(out, a.rows, a.cols);
    for (int r = 0; r < a.rows; ++r)
      for (int c = 0; c < a.cols; ++c)
        expect_equal(out.data[r * COLS + c], rounded<T>(exact(wide(a.data[r * COLS + c]), wide(other(r, c)))), r, c);
  }
};

TYPED_TEST_SUITE(Broadcast, NumberTypes);

TYPED_TEST(Broadcast, Add) {
  this->check(t::row_expand_add, t::col_expand_add, [](auto a, auto b) { return a + b; });
}
TYPED_TEST(Broadcast, Sub) {
  this->check(t::row_expand_sub, t::col_expand_sub, [](auto a, auto b) { return a - b; });
}
TYPED_TEST(Broadcast, Mul) {
  this->check(t::row_expand_mul, t::col_expand_mul, [](auto a, auto b) { return product(a, b); });
}
TYPED_TEST(Broadcast, Div) {
  this->check(t::row_expand_div, t::col_expand_div, [](auto a, auto b) { return a / b; });
}

TEST(Broadcast, ARegionThatDoesNotFitFails) {
  TestCore core;
  t::Tile<float, 4, 8> a(core, 3, 8), out(core);
  t::Tile<float, 4, 1> column(core, 4, 1);
  t::Tile<float, 1, 8> row(core, 1, 7);
  t::full(a, 1);
  auto failure = failure_of([&] { t::row_expand_add(out, a, column); });
  EXPECT_EQ(failure.where, "row_expand_add");
  EXPECT_EQ(failure.message, "a valid region of 3x8 needs a column of 3x1, not 4x1");
  failure = failure_of([&] { t::col_expand_mul(out, a, row); });
  EXPECT_EQ(failure.where, "col_expand_mul");
  EXPECT_EQ(failure.message, "a valid region of 3x8 needs a row of 1x8, not 1x7");
}

TEST(Broadcast, IntegerDivisionByZeroFails) {
  TestCore core;
  t::Tile<int16_t, 4, 8> a(core), out(core);
  t::Tile<int16_t, 4, 1> column(core);
  t::Tile<int16_t, 1, 8> row(core);
  t::full(a, 1);
  t::full(column, 1);
  t::full(row, 1);
  column.data[2] = 0;
  row.data[5] = 0;
  EXPECT_EQ(failure_of([&] { t::row_expand_div(out, a, column); }).message,
            "integer division by zero: element [2, 0] of the divisor");
  EXPECT_EQ(failure_of([&] { t::col_expand_div(out, a, row); }).message,
            "integer division by zero: element [0, 5] of the divisor");
}

// Softmax as a kernel writes it, on a tile of one more column than is valid.
TEST(Broadcast, SoftmaxOfATailSumsToOne) {
  TestCore core;
  std::mt19937_64 random(1);
  t::Tile<float, 16, 11> x(core, 13, 10), shifted(core), e(core), y(core);
  t::Tile<float, 16, 1> top(core), sum(core);
  fill(x, random);
  t::row_max(top, x);
  t::row_expand_sub(shifted, x, top);
  t::exp(e, shifted);
  t::row_sum(sum, e);
  t::row_expand_div(y, e, sum);
  for (int r = 0; r < 13; ++r) {
    double total = 0, exact_total = 0;
    for (int c = 0; c < 10; ++c)
      exact_total += std::exp(static_cast<double>(x.data[r * 11 + c]));
    for (int c = 0; c < 10; ++c) {
      total += y.data[r * 11 + c];
      EXPECT_NEAR(y.data[r * 11 + c], std::exp(static_cast<double>(x.data[r * 11 + c])) / exact_total, 1e-6);
    }
    EXPECT_NEAR(total, 1.0, 1e-6);
  }
}

} // namespace
} // namespace simpler::testing
