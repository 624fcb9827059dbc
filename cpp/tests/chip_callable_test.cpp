#include "simpler/chip_callable.h"

#include "simpler/errors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

namespace simpler {
namespace {

std::vector<std::byte> bytes_of(const std::string &text) {
  const auto *p = reinterpret_cast<const std::byte *>(text.data());
  return {p, p + text.size()};
}

ChipCallableSource source() {
  return {"classify",
          bytes_of("orchestration object"),
          "orchestrate",
          {TensorArgType::IN, TensorArgType::OUT},
          2,
          {{7, "linear", CoreType::AIC, bytes_of("first object"), "kernel"},
           {3, "softmax", CoreType::AIV, bytes_of("the second object"), "run"}}};
}

std::string text_of(Bytes bytes) { return {reinterpret_cast<const char *>(bytes.data()), bytes.size()}; }

// Reads everything that can be read; a sanitizer sees it when a view reaches outside.
size_t touch(const ChipCallable &callable) {
  size_t sum = callable.name().size() + callable.orchestration_symbol().size();
  for (char c : callable.name())
    sum += static_cast<size_t>(c);
  for (TensorArgType tag : callable.signature())
    sum += static_cast<size_t>(tag);
  for (std::byte b : callable.orchestration())
    sum += static_cast<size_t>(b);
  for (const auto &kernel : callable.kernels()) {
    for (char c : kernel.name)
      sum += static_cast<size_t>(c);
    for (char c : kernel.symbol)
      sum += static_cast<size_t>(c);
    for (std::byte b : kernel.object)
      sum += static_cast<size_t>(b);
  }
  return sum;
}

TEST(ChipCallable, HoldsWhatItWasBuiltFrom) {
  const ChipCallable callable = ChipCallable::build(source());
  EXPECT_EQ(callable.name(), "classify");
  EXPECT_EQ(callable.orchestration_symbol(), "orchestrate");
  EXPECT_EQ(text_of(callable.orchestration()), "orchestration object");
  ASSERT_EQ(callable.signature().size(), 2u);
  EXPECT_EQ(callable.signature()[1], TensorArgType::OUT);
  EXPECT_EQ(callable.scalar_count(), 2);
  ASSERT_EQ(callable.kernels().size(), 2u);
  EXPECT_EQ(callable.kernels()[0].func_id, 7);
  EXPECT_EQ(callable.kernels()[1].core_type, CoreType::AIV);
  EXPECT_EQ(callable.kernels()[1].symbol, "run");
  EXPECT_EQ(text_of(callable.kernels()[1].object), "the second object");
}

TEST(ChipCallable, IsPositionIndependent) {
  const ChipCallable built = ChipCallable::build(source());
  std::vector<std::byte> moved(built.bytes().size() + 1);
  std::memcpy(moved.data() + 1, built.bytes().data(), built.bytes().size());
  const ChipCallable read = ChipCallable::from_bytes({moved.data() + 1, built.bytes().size()});
  std::fill(moved.begin(), moved.end(), std::byte{0xEE});
  EXPECT_EQ(text_of(read.bytes()), text_of(built.bytes()));
  EXPECT_EQ(touch(read), touch(built));
  EXPECT_EQ(read.layout().content_hash, built.layout().content_hash);
}

TEST(ChipCallable, EqualContentsGiveEqualBytes) {
  const ChipCallable a = ChipCallable::build(source()), b = ChipCallable::build(source());
  EXPECT_EQ(text_of(a.bytes()), text_of(b.bytes()));
  auto other = source();
  other.kernels[1].object[0] = std::byte{1};
  EXPECT_NE(ChipCallable::build(other).layout().content_hash, a.layout().content_hash);
}

TEST(ChipCallable, ObjectsAreAlignedAndBehindTheHeader) {
  const ChipCallable callable = ChipCallable::build(source());
  const auto offset = [&](Bytes object) { return static_cast<size_t>(object.data() - callable.bytes().data()); };
  EXPECT_EQ(offset(callable.orchestration()), callable.layout().header_nbytes);
  for (const auto &kernel : callable.kernels())
    EXPECT_EQ(offset(kernel.object) % 64, 0u);
  EXPECT_EQ(callable.layout().total_nbytes, callable.bytes().size());
}

TEST(ChipCallable, RefusesToBuildNonsense) {
  const auto refused = [](auto change) {
    auto bad = source();
    change(bad);
    EXPECT_THROW(ChipCallable::build(bad), CallableError);
  };
  refused([](auto &s) { s.name.clear(); });
  refused([](auto &s) { s.orchestration.clear(); });
  refused([](auto &s) { s.orchestration_symbol.clear(); });
  refused([](auto &s) { s.scalar_count = -1; });
  refused([](auto &s) { s.kernels[1].func_id = 7; });
  refused([](auto &s) { s.kernels[0].object.clear(); });
  refused([](auto &s) { s.kernels[0].name.clear(); });
}

TEST(ChipCallable, TruncatedAnywhereIsRefused) {
  const ChipCallable built = ChipCallable::build(source());
  for (size_t n = 0; n < built.bytes().size(); ++n) {
    std::vector<std::byte> part(built.bytes().begin(), built.bytes().begin() + static_cast<long>(n));
    EXPECT_THROW(ChipCallable::from_bytes(part), CallableError) << n;
  }
}

TEST(ChipCallable, AnyDamagedByteIsRefused) {
  const ChipCallable built = ChipCallable::build(source());
  for (size_t i = 0; i < built.bytes().size(); ++i) {
    std::vector<std::byte> damaged(built.bytes().begin(), built.bytes().end());
    damaged[i] ^= std::byte{0x40};
    EXPECT_THROW(ChipCallable::from_bytes(damaged), CallableError) << i;
  }
}

// Damage that somebody took the trouble to sign again must still not reach outside.
TEST(ChipCallable, DamageWithAMatchingHashNeverReachesOutside) {
  constexpr size_t HASH_AT = 16, HASHED_FROM = 24;
  const ChipCallable built = ChipCallable::build(source());
  std::mt19937_64 random(5);
  int accepted = 0, refused = 0;
  for (int round = 0; round < 50000; ++round) {
    std::vector<std::byte> damaged(built.bytes().begin(), built.bytes().end());
    for (unsigned i = 0; i < 1 + random() % 3; ++i) {
      const size_t word = random() % (built.layout().header_nbytes / 8);
      const uint64_t values[] = {random(), random() % 512, ~0ULL, 0, built.bytes().size(), built.bytes().size() + 1};
      std::memcpy(damaged.data() + 8 * word, &values[random() % std::size(values)], 8);
    }
    uint64_t hash = 14695981039346656037ULL;
    for (size_t i = HASHED_FROM; i < damaged.size(); ++i)
      hash = (hash ^ static_cast<uint64_t>(damaged[i])) * 1099511628211ULL;
    std::memcpy(damaged.data() + HASH_AT, &hash, 8);
    try {
      touch(ChipCallable::from_bytes(damaged));
      ++accepted;
    } catch (const CallableError &) {
      ++refused;
    }
  }
  EXPECT_GT(accepted, 0);
  EXPECT_GT(refused, 0);
}

TEST(ChipCallable, SaysWhenItWasCompiledForAnotherAbi) {
  const ChipCallable built = ChipCallable::build(source());
  std::vector<std::byte> other(built.bytes().begin(), built.bytes().end());
  other[12] = std::byte{99};
  try {
    ChipCallable::from_bytes(other);
    FAIL() << "expected CallableError";
  } catch (const CallableError &e) {
    EXPECT_NE(std::string(e.what()).find("kernel ABI 99"), std::string::npos) << e.what();
  }
}

} // namespace
} // namespace simpler
