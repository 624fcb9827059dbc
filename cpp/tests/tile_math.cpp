// exp, log and rsqrt: against the double precision library, in units in the last place.
#include "tile_testing.h"

namespace simpler::testing {
namespace {

// Distance from the exact value in ulps of the float next to it; 0 for equal infinities and for NaN where NaN is due.
double ulps(float actual, double expected) {
  if (std::isnan(expected))
    return std::isnan(actual) ? 0.0 : HUGE_VAL;
  if (std::isnan(actual))
    return HUGE_VAL;
  const auto nearest_float = static_cast<float>(expected);
  if (std::isinf(nearest_float) || std::isinf(actual))
    return actual == nearest_float ? 0.0 : HUGE_VAL;
  const double ulp = std::ldexp(1.0, std::max(std::ilogb(std::max(std::fabs(expected), 0x1p-126)), -126) - 23);
  return std::fabs(actual - expected) / ulp;
}

constexpr int WIDTH = 4096;

struct Worst {
  double ulps = 0.0;
  float at = 0.0f;
};

// The worst error of `op` over every `stride`-th float there is, NaNs and infinities too.
template <class F, class G> Worst worst_error(F op, G reference, uint32_t stride) {
  TestCore core;
  t::Tile<float, 1, WIDTH> x(core), y(core);
  Worst worst;
  for (uint64_t start = 0; start < 0x100000000ull; start += uint64_t{stride} * WIDTH) {
    for (int i = 0; i < WIDTH; ++i)
      x.data[i] = __builtin_bit_cast(float, static_cast<uint32_t>(start + uint64_t{stride} * static_cast<unsigned>(i)));
    op(y, x);
    for (int i = 0; i < WIDTH; ++i) {
      const double error = ulps(y.data[i], reference(static_cast<double>(x.data[i])));
      if (error > worst.ulps)
        worst = {error, x.data[i]};
    }
  }
  return worst;
}

#ifdef SIMPLER_TILE_EXHAUSTIVE // every float there is: minutes
constexpr uint32_t STRIDE = 1;
#else
constexpr uint32_t STRIDE = 4099; // a prime: all exponents, ever other fractions
#endif

const auto EXP = [](auto &out, const auto &a) { t::exp(out, a); };
const auto LOG = [](auto &out, const auto &a) { t::log(out, a); };
const auto RSQRT = [](auto &out, const auto &a) { t::rsqrt(out, a); };

TEST(Exp, IsWithinTwoUlpEverywhere) {
  const Worst worst = worst_error(EXP, [](double x) { return std::exp(x); }, STRIDE);
  EXPECT_LE(worst.ulps, 2.0) << "at " << worst.at;
  RecordProperty("worst_ulps", std::to_string(worst.ulps));
}

TEST(Log, IsWithinTwoUlpEverywhere) {
  const Worst worst = worst_error(LOG, [](double x) { return std::log(x); }, STRIDE);
  EXPECT_LE(worst.ulps, 2.0) << "at " << worst.at;
  RecordProperty("worst_ulps", std::to_string(worst.ulps));
}

TEST(Rsqrt, IsWithinTwoUlpEverywhere) {
  const Worst worst = worst_error(RSQRT, [](double x) { return 1.0 / std::sqrt(x); }, STRIDE);
  EXPECT_LE(worst.ulps, 2.0) << "at " << worst.at;
  RecordProperty("worst_ulps", std::to_string(worst.ulps));
}

// Every float of a small interval, where the results change their nature.
template <class F, class G> Worst worst_between(F op, G reference, float from, float to) {
  TestCore core;
  t::Tile<float, 1, WIDTH> x(core), y(core);
  Worst worst;
  for (float value = from; value < to;) {
    for (int i = 0; i < WIDTH; ++i, value = std::nextafter(value, HUGE_VALF))
      x.data[i] = value;
    op(y, x);
    for (int i = 0; i < WIDTH; ++i) {
      const double error = ulps(y.data[i], reference(static_cast<double>(x.data[i])));
      if (error > worst.ulps)
        worst = {error, x.data[i]};
    }
  }
  return worst;
}

TEST(Exp, IsRightWhereItOverflows) {
  const Worst worst = worst_between(EXP, [](double x) { return std::exp(x); }, 88.7f, 89.1f);
  EXPECT_LE(worst.ulps, 2.0) << "at " << worst.at;
}

TEST(Exp, IsRightWhereItBecomesSubnormalAndZero) {
  const auto reference = [](double x) { return std::exp(x); };
  for (float from : {-87.4f, -100.0f, -103.98f, -104.01f}) {
    const Worst worst = worst_between(EXP, reference, from, from + 0.05f);
    EXPECT_LE(worst.ulps, 2.0) << "at " << worst.at;
  }
}

TEST(Log, IsRightAroundOneWhereItVanishes) {
  const Worst worst = worst_between(LOG, [](double x) { return std::log(x); }, 0.999f, 1.001f);
  EXPECT_LE(worst.ulps, 2.0) << "at " << worst.at;
}

TEST(Log, IsRightForSubnormalNumbers) {
  const Worst worst = worst_between(LOG, [](double x) { return std::log(x); }, 0x1p-149f, 0x1p-133f);
  EXPECT_LE(worst.ulps, 2.0) << "at " << worst.at;
}

TEST(ExpAndLog, AtTheEdges) {
  TestCore core;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  t::Tile<float, 1, 8> x(core), y(core);
  const float values[8] = {0.0f, -0.0f, HUGE_VALF, -HUGE_VALF, nan, -1.0f, 1.0f, 0x1p-149f};
  __builtin_memcpy(x.data, values, sizeof values);
  t::exp(y, x);
  EXPECT_TRUE(y.data[0] == 1.0f && y.data[1] == 1.0f && y.data[2] == HUGE_VALF && y.data[3] == 0.0f);
  EXPECT_TRUE(std::isnan(y.data[4]) && y.data[7] == 1.0f);
  t::log(y, x);
  EXPECT_TRUE(y.data[0] == -HUGE_VALF && y.data[1] == -HUGE_VALF && y.data[2] == HUGE_VALF && std::isnan(y.data[3]));
  EXPECT_TRUE(std::isnan(y.data[4]) && std::isnan(y.data[5]) && y.data[6] == 0.0f);
}

// The 16-bit floats compute in float: never further from the exact value than half a unit and a trace.
template <class T> class SixteenBitMath : public ::testing::Test {};
using SixteenBit = ::testing::Types<Float16, BFloat16>;
TYPED_TEST_SUITE(SixteenBitMath, SixteenBit);

TYPED_TEST(SixteenBitMath, EveryValueIsTheExactOneRoundedOrItsNeighbour) {
  TestCore core;
  t::Tile<TypeParam, 16, WIDTH> x(core), e(core), l(core), s(core);
  for (uint32_t bits = 0; bits < 0x10000; ++bits)
    x.data[bits].bits = static_cast<uint16_t>(bits);
  t::exp(e, x);
  t::log(l, x);
  t::rsqrt(s, x);
  const auto close = [](TypeParam actual, double expected) {
    // Exact but for values within 2 float ulp of a tie, which may go either way.
    const TypeParam low = rounded<TypeParam>(expected * (1 - 0x1p-21)),
                    high = rounded<TypeParam>(expected * (1 + 0x1p-21));
    if (std::isnan(expected))
      return std::isnan(static_cast<float>(actual));
    return static_cast<float>(actual) == static_cast<float>(low) ||
           static_cast<float>(actual) == static_cast<float>(high);
  };
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const double value = static_cast<double>(static_cast<float>(x.data[bits]));
    ASSERT_TRUE(close(e.data[bits], std::exp(value))) << value;
    ASSERT_TRUE(close(l.data[bits], std::log(value))) << value;
    ASSERT_TRUE(close(s.data[bits], 1.0 / std::sqrt(value))) << value;
  }
}

} // namespace
} // namespace simpler::testing
