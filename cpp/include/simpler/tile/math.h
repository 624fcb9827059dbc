// exp and log of a float, within 2 ulp everywhere (1.01 and 0.83 at worst over all floats, with fused multiply-add),
// written without branches or calls so that loops over them vectorise.
//
// Method: argument reduction after Cody and Waite (Software Manual for the Elementary Functions, 1980), then a minimax
// polynomial (Remez exchange on the reduced interval, weighted for relative error; the error bounds stand beside each).
// Infinities, NaN, subnormal arguments and subnormal, overflowing and underflowing results are right.
#pragma once

#include <cstdint>

namespace simpler::tile::detail {

// ln 2 in two parts: the upper one has 9 trailing zero bits, so that n times it is exact for |n| < 512.
inline constexpr float LN2_HIGH = 0x1.62e4p-1f;
inline constexpr float LN2_LOW = 0x1.7f7d1cp-20f;

// 2^n for -127 < n < 128, of the low bits of n.
inline float power_of_two(uint32_t n) { return __builtin_bit_cast(float, (n + 127u) << 23); }

inline float exp(float x) {
  // Beyond these the result is 0 or infinity; the comparisons leave a NaN as it is.
  float clamped = x < -104.0f ? -104.0f : x;
  clamped = clamped > 89.0f ? 89.0f : clamped;
  // Adding 1.5·2^23 rounds to the nearest integer, which is then found in the low bits (no cast: a NaN has none).
  const float shifted = clamped * 0x1.715476p0f + 0x1.8p23f;
  const uint32_t n_bits = __builtin_bit_cast(uint32_t, shifted) - 0x4b400000u;
  const float n = shifted - 0x1.8p23f;
  const float r = (clamped - n * LN2_HIGH) - n * LN2_LOW; // |r| <= ln 2 / 2
  float p = 0x1.6a215ap-10f;                              // (e^r - 1 - r) / r^2 within 0.06 ulp of e^r
  p = p * r + 0x1.123b9ap-7f;
  p = p * r + 0x1.5558fcp-5f;
  p = p * r + 0x1.55549p-3f;
  p = p * r + 0x1.fffffcp-2f;
  const float value = p * (r * r) + r + 1.0f;
  // Two factors: 2^n itself may be too large or too small for a float where the result isn't.
  const auto half = static_cast<uint32_t>(static_cast<int32_t>(n_bits) >> 1);
  return value * power_of_two(half) * power_of_two(n_bits - half);
}

inline float log(float x) {
  const bool subnormal = x < 0x1p-126f;
  const float scaled = subnormal ? x * 0x1p23f : x;
  // x = m·2^e with m in [sqrt(1/2), sqrt(2)): the bits of sqrt(1/2) are taken off, so that the exponent steps there.
  const uint32_t bits = __builtin_bit_cast(uint32_t, scaled);
  const int32_t exponent = static_cast<int32_t>(bits - 0x3f3504f3u) >> 23;
  const float f = __builtin_bit_cast(float, bits - (static_cast<uint32_t>(exponent) << 23)) - 1.0f;
  const float e = static_cast<float>(exponent) - (subnormal ? 23.0f : 0.0f);
  float p = 0x1.145796p-4f; // (log(1 + f) - f + f^2 / 2) / f^3 within 0.02 ulp of log(1 + f)
  p = p * f - 0x1.de3c04p-4f;
  p = p * f + 0x1.e6f06ap-4f;
  p = p * f - 0x1.fc220ap-4f;
  p = p * f + 0x1.233768p-3f;
  p = p * f - 0x1.555c4ep-3f;
  p = p * f + 0x1.99a4b6p-3f;
  p = p * f - 0x1.000006p-2f;
  p = p * f + 0x1.555548p-2f;
  const float square = f * f;
  const float tail = p * f * square + e * LN2_LOW - 0.5f * square;
  const float value = tail + f + e * LN2_HIGH;
  const float infinity = __builtin_inff();
  float result = x == infinity ? infinity : value;
  result = x == 0.0f ? -infinity : result;
  return x < 0.0f ? __builtin_nanf("") : (x != x ? x : result);
}

} // namespace simpler::tile::detail
