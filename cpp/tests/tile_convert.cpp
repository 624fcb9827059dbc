// cast between every two types, and transpose.
#include "tile_testing.h"

#include <tuple>

namespace simpler::testing {
namespace {

// What a cast means, by the definition.
template <class To, class From> To expected_cast(From from) {
  if constexpr (std::is_same_v<To, bool>) {
    return wide(from) != 0;
  } else if constexpr (is_float<From> && !is_float<To>) {
    const double value = wide(from);
    if (std::isnan(value))
      return To{0};
    if (value <= static_cast<double>(std::numeric_limits<To>::min()))
      return std::numeric_limits<To>::min();
    if (value >= static_cast<double>(std::numeric_limits<To>::max()))
      return std::numeric_limits<To>::max();
    return static_cast<To>(value);
  } else if constexpr (is_float<To>) {
    return To(static_cast<float>(from)); // by way of float
  } else {
    return static_cast<To>(from);
  }
}

template <class T> std::vector<T> interesting() {
  std::vector<T> values;
  if constexpr (is_float<T>) {
    for (float value : {0.0f,      -0.0f,          0.4f,
                        -0.6f,     1.5f,           -2.5f,
                        126.9f,    127.5f,         128.0f,
                        -128.9f,   -129.0f,        255.9f,
                        256.0f,    32767.9f,       32768.0f,
                        -32769.0f, 65504.0f,       65535.0f,
                        65536.0f,  0x1p31f,        0x1.fffffep30f,
                        -0x1p31f,  0x1p32f,        0x1p63f,
                        -0x1p63f,  0x1.fffffep62f, 0x1p64f,
                        1e-40f,    3.4e38f,        -3.4e38f,
                        HUGE_VALF, -HUGE_VALF,     std::numeric_limits<float>::quiet_NaN()})
      values.push_back(T(value));
  } else if constexpr (std::is_same_v<T, bool>) {
    values = {false, true};
  } else {
    for (uint64_t value : {uint64_t{0}, uint64_t{1}, uint64_t{127}, uint64_t{128}, uint64_t{255}, uint64_t{256},
                           uint64_t{2049}, uint64_t{65519}, uint64_t{65520}, uint64_t{0x7fffffff}, uint64_t{0x80000000},
                           uint64_t{0x1000001}, ~uint64_t{0}, ~uint64_t{0} - 4, uint64_t{1} << 63})
      values.push_back(static_cast<T>(value));
  }
  std::mt19937_64 random(21);
  while (values.size() < 67)
    values.push_back(sample<T>(random));
  return values;
}

template <class From> class Cast : public ::testing::Test {
public:
  template <class To> static void check() {
    TestCore core;
    const auto values = interesting<From>();
    t::Tile<From, 2, 70> a(core, 2, 67);
    t::Tile<To, 2, 70> out(core);
    for (size_t i = 0; i < values.size(); ++i)
      a.data[i] = a.data[70 + values.size() - 1 - i] = values[i];
    t::cast(out, a);
    expect_region(out, 2, 67);
    for (int i = 0; i < 67; ++i) {
      expect_equal(out.data[i], expected_cast<To>(a.data[i]), 0, i);
      expect_equal(out.data[70 + i], expected_cast<To>(a.data[70 + i]), 1, i);
    }
  }
  template <class... To> static void check_all(::testing::Types<To...>) { (check<To>(), ...); }
};

TYPED_TEST_SUITE(Cast, AllTypes);
TYPED_TEST(Cast, ToEveryType) { this->check_all(AllTypes{}); }

template <class T> class Transpose : public ::testing::Test {
public:
  template <int R, int C> static void check(int rows, int cols) {
    TestCore core;
    std::mt19937_64 random(2);
    t::Tile<T, R, C> a(core, rows, cols);
    t::Tile<T, C, R> out(core), expected_shape(core, cols, rows);
    fill(a, random);
    t::transpose(out, a);
    expect_region(out, cols, rows);
    for (int r = 0; r < rows; ++r)
      for (int c = 0; c < cols; ++c)
        expect_equal(out.data[c * R + r], a.data[r * C + c], r, c);
  }
};

TYPED_TEST_SUITE(Transpose, AllTypes);
TYPED_TEST(Transpose, SwapsRowsAndColumns) {
  this->template check<7, 70>(7, 70);
  this->template check<7, 70>(5, 67);
  this->template check<40, 33>(40, 33);
  this->template check<40, 33>(17, 32);
  this->template check<1, 9>(1, 9);
  this->template check<7, 70>(0, 3);
}

} // namespace
} // namespace simpler::testing
