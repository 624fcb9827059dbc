// Float16 and BFloat16: every value, every rounding.
#include "tile_testing.h"

namespace simpler::testing {
namespace {

// The value of a 16-bit float, from its definition.
double value_of(uint32_t bits, int exponent_bits, int fraction_bits) {
  const double sign = (bits >> 15) != 0 ? -1.0 : 1.0;
  const uint32_t exponent = (bits >> fraction_bits) & ((1u << exponent_bits) - 1);
  const uint32_t fraction = bits & ((1u << fraction_bits) - 1);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  if (exponent == (1u << exponent_bits) - 1)
    return fraction != 0 ? std::numeric_limits<double>::quiet_NaN() : sign * HUGE_VAL;
  if (exponent == 0)
    return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp((1u << fraction_bits) + fraction, static_cast<int>(exponent) - bias - fraction_bits);
}

template <class T> struct Format;
template <> struct Format<Float16> {
  static constexpr int EXPONENT = 5, FRACTION = 10;
};
template <> struct Format<BFloat16> {
  static constexpr int EXPONENT = 8, FRACTION = 7;
};

template <class T> T from_bits(uint32_t bits) {
  T value;
  value.bits = static_cast<uint16_t>(bits);
  return value;
}

template <class T> class SixteenBitFloat : public ::testing::Test {
public:
  static double value(uint32_t bits) { return value_of(bits, Format<T>::EXPONENT, Format<T>::FRACTION); }
};
using Types = ::testing::Types<Float16, BFloat16>;
TYPED_TEST_SUITE(SixteenBitFloat, Types);

TYPED_TEST(SixteenBitFloat, EveryValueWidensExactlyAndComesBack) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto element = from_bits<TypeParam>(bits);
    const double expected = this->value(bits);
    const auto widened = static_cast<float>(element);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(widened)) << bits;
      ASSERT_TRUE(std::isnan(static_cast<float>(TypeParam(widened)))) << bits;
    } else {
      ASSERT_EQ(static_cast<double>(widened), expected) << bits;
      ASSERT_EQ(TypeParam(widened).bits, element.bits);
    }
  }
}

TYPED_TEST(SixteenBitFloat, WhatLiesBetweenTwoValuesGoesToTheNearestAndTiesToEven) {
  const uint32_t infinity = ((1u << Format<TypeParam>::EXPONENT) - 1) << Format<TypeParam>::FRACTION;
  for (uint32_t sign : {0u, 0x8000u})
    for (uint32_t bits = 0; bits + 1 < infinity; ++bits) {
      const double low = this->value(bits), high = this->value(bits + 1);
      const auto middle = static_cast<float>((low + high) / 2);
      const float direction = sign != 0 ? -1.0f : 1.0f;
      ASSERT_EQ(TypeParam(direction * middle).bits, sign | (bits + (bits & 1))) << bits;
      ASSERT_EQ(TypeParam(direction * std::nextafter(middle, 0.0f)).bits, sign | bits) << bits;
      ASSERT_EQ(TypeParam(direction * std::nextafter(middle, HUGE_VALF)).bits, sign | (bits + 1)) << bits;
    }
}

TYPED_TEST(SixteenBitFloat, OverflowGoesToInfinityHalfAnUlpBeyondTheLargest) {
  const uint32_t infinity = ((1u << Format<TypeParam>::EXPONENT) - 1) << Format<TypeParam>::FRACTION;
  const double largest = this->value(infinity - 1), step = largest - this->value(infinity - 2);
  const auto limit = static_cast<float>(largest + step / 2);
  EXPECT_EQ(TypeParam(std::nextafter(limit, 0.0f)).bits, infinity - 1);
  EXPECT_EQ(TypeParam(limit).bits, infinity);
  EXPECT_EQ(TypeParam(-limit).bits, infinity | 0x8000u);
  EXPECT_EQ(TypeParam(HUGE_VALF).bits, infinity);
}

TYPED_TEST(SixteenBitFloat, ANaNStaysOneWhateverItsPayload) {
  for (uint32_t payload : {1u, 0x1000u, 0x7fffffu, 0x400000u}) {
    const auto nan = __builtin_bit_cast(float, 0x7f800000u | payload);
    EXPECT_TRUE(std::isnan(static_cast<float>(TypeParam(nan)))) << payload;
    EXPECT_TRUE(std::isnan(static_cast<float>(TypeParam(-nan)))) << payload;
  }
}

// The same code runs on vectors: all 65536 values through a cast, which is a vectorised loop.
TYPED_TEST(SixteenBitFloat, TilesConvertAsSingleValuesDo) {
  TestCore core;
  t::Tile<TypeParam, 64, 1024> narrow(core), back(core);
  t::Tile<float, 64, 1024> widened(core);
  for (uint32_t bits = 0; bits < 0x10000; ++bits)
    narrow.data[bits] = from_bits<TypeParam>(bits);
  t::cast(widened, narrow);
  t::cast(back, widened);
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const double expected = this->value(bits);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(widened.data[bits]));
      ASSERT_TRUE(std::isnan(static_cast<float>(back.data[bits])));
    } else {
      ASSERT_EQ(static_cast<double>(widened.data[bits]), expected);
      ASSERT_EQ(back.data[bits].bits, bits);
    }
  }
}

} // namespace
} // namespace simpler::testing
