// What the tile tests share: a core of their own, filled tiles, and a slow reference for rounding.
#pragma once

#include "simpler/tile.h"

#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include <gtest/gtest.h>

namespace simpler::testing {

namespace t = simpler::tile;

// What Core::fail throws here.
struct Failure {
  std::string where, message;
};

// A core whose local memory is the heap (so that AddressSanitizer watches every tile) and must be freed in order.
class TestCore : public Core {
public:
  TestCore() : Core{0, 0, 1, CoreType::AIV, &SERVICES} {}
  ~TestCore() { EXPECT_TRUE(live.empty()) << "a tile was not given back"; }
  std::vector<void *> live;

private:
  static TestCore &self(Core &core) { return static_cast<TestCore &>(core); }
  static void *allocate(Core &core, size_t nbytes) {
    void *p = std::malloc(nbytes);
    self(core).live.push_back(p);
    return p;
  }
  static void release(Core &core, void *p) noexcept {
    EXPECT_EQ(self(core).live.back(), p) << "tiles are given back last in, first out";
    self(core).live.pop_back();
    std::free(p);
  }
  static void raise(Core &, const char *where, const char *format, va_list values) {
    char text[512];
    std::vsnprintf(text, sizeof text, format, values);
    throw Failure{where, text};
  }
  static constexpr Services SERVICES{allocate, release, raise};
};

template <class T>
inline constexpr bool is_float = std::is_same_v<T, float> || std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16>;

__extension__ using Wide = __int128; // holds every product of two 64-bit integers
__extension__ using WideUnsigned = unsigned __int128;

// The value of an element, wide enough to compute a reference in.
template <class T> auto wide(T element) {
  if constexpr (is_float<T>)
    return static_cast<double>(static_cast<float>(element));
  else
    return static_cast<Wide>(element);
}

// a * b and a + b; of integers modulo 2^128, which two 64-bit unsigned ones come close to.
inline double product(double a, double b) { return a * b; }
inline Wide product(Wide a, Wide b) {
  return static_cast<Wide>(static_cast<WideUnsigned>(a) * static_cast<WideUnsigned>(b));
}
inline double total(double a, double b) { return a + b; }
inline Wide total(Wide a, Wide b) {
  return static_cast<Wide>(static_cast<WideUnsigned>(a) + static_cast<WideUnsigned>(b));
}

// The nearest number with `precision` bits, a smallest exponent and a largest number: ties to even.
inline double nearest(double exact, int precision, int smallest_exponent, double largest) {
  if (exact == 0.0 || !std::isfinite(exact))
    return exact;
  const int exponent = std::max(std::ilogb(exact), smallest_exponent);
  const double rounded =
      std::scalbn(std::nearbyint(std::scalbn(exact, precision - 1 - exponent)), exponent - precision + 1);
  return std::fabs(rounded) > largest ? std::copysign(HUGE_VAL, exact) : rounded;
}

// An exact result as an element of T: rounded once, or wrapped.
template <class T> T rounded(double exact) {
  if constexpr (std::is_same_v<T, Float16>)
    return Float16(static_cast<float>(nearest(exact, 11, -14, 65504.0)));
  else if constexpr (std::is_same_v<T, BFloat16>)
    return BFloat16(static_cast<float>(nearest(exact, 8, -126, 0x1.fep127)));
  else
    return static_cast<T>(exact);
}
template <class T> T rounded(Wide exact) {
  if constexpr (is_float<T>)
    return rounded<T>(static_cast<double>(exact));
  else
    return static_cast<T>(static_cast<WideUnsigned>(exact)); // modulo 2^bits; of a bool: is it 0?
}

template <class T> [[gnu::noinline]] void expect_equal(T actual, T expected, int r, int c) {
  if constexpr (is_float<T>) {
    const auto a = static_cast<float>(actual), e = static_cast<float>(expected);
    if (std::isnan(e))
      EXPECT_TRUE(std::isnan(a)) << "at [" << r << ", " << c << "]: " << a;
    else
      EXPECT_EQ(a, e) << "at [" << r << ", " << c << "]";
  } else {
    EXPECT_EQ(+actual, +expected) << "at [" << r << ", " << c << "]";
  }
}

// Small numbers whose sums and products stay exact in most types; never 0 where `nonzero`.
template <class T> T sample(std::mt19937_64 &random, bool nonzero = false) {
  for (;;) {
    T element;
    if constexpr (std::is_same_v<T, bool>)
      element = (random() & 1) != 0;
    else if constexpr (is_float<T>)
      element = T(std::uniform_real_distribution<float>(-8.0f, 8.0f)(random));
    else
      element = static_cast<T>(random()); // any value: integers wrap
    if (!nonzero || wide(element) != 0)
      return element;
  }
}

// What stands outside the valid region: a value that would show in any result.
template <class T> T poison() {
  if constexpr (is_float<T>)
    return T(std::numeric_limits<float>::quiet_NaN());
  else
    return T{0}; // as a divisor it would fail the kernel, as an operand of minimum or mul it would win
}

template <class T, int R, int C>
[[gnu::noinline]] void fill(t::Tile<T, R, C> &tile, std::mt19937_64 &random, bool nonzero = false) {
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c)
      tile.data[r * C + c] = r < tile.rows && c < tile.cols ? sample<T>(random, nonzero) : poison<T>();
}

template <class T, int R, int C> void expect_region(const t::Tile<T, R, C> &tile, int rows, int cols) {
  EXPECT_EQ(tile.rows, rows);
  EXPECT_EQ(tile.cols, cols);
}

// Runs `f`, which must fail the kernel, and gives what it said.
template <class F> Failure failure_of(F f) {
  try {
    f();
  } catch (const Failure &failure) {
    return failure;
  }
  ADD_FAILURE() << "the kernel did not fail";
  return {};
}

inline ContinuousTensor tensor_of(void *data, DataType dtype, uint32_t rows, uint32_t cols) {
  ContinuousTensor tensor{};
  tensor.data = reinterpret_cast<uint64_t>(data);
  tensor.shapes[0] = rows;
  tensor.shapes[1] = cols;
  tensor.ndims = 2;
  tensor.dtype = static_cast<uint8_t>(dtype);
  return tensor;
}

// Most operations are tested on tiles of this shape, no multiple of any vector, with these valid regions: all of it,
// tails in both directions, whole rows, one column, one element, nothing.
inline constexpr int ROWS = 7, COLS = 70;
struct Region {
  int rows, cols;
};
inline const std::vector<Region> REGIONS = {{ROWS, COLS}, {5, 67}, {3, COLS}, {6, 16}, {4, 1}, {1, 1}, {0, 9}, {2, 0}};

// The types that operations are tested with. They differ in kind: of the integers one that is promoted to int, one that
// is promoted and unsigned (its products overflow an int), one wider than int. With SIMPLER_ALL_TYPES: every type.
using FloatTypes = ::testing::Types<float, Float16, BFloat16>;
#ifdef SIMPLER_ALL_TYPES
using IntegerTypes = ::testing::Types<int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t>;
using NumberTypes = ::testing::Types<float, Float16, BFloat16, int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t,
                                     uint32_t, uint64_t>;
using AllTypes = ::testing::Types<float, Float16, BFloat16, int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t,
                                  uint32_t, uint64_t, bool>;
#else
using IntegerTypes = ::testing::Types<int8_t, uint16_t, int64_t>;
using NumberTypes = ::testing::Types<float, BFloat16, int8_t, uint16_t, int64_t>;
using AllTypes = ::testing::Types<float, BFloat16, int8_t, uint16_t, int64_t, bool>;
#endif

} // namespace simpler::testing
