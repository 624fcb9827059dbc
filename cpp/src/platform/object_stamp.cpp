#include "platform/object_stamp.h"

#include "platform/shared_object.h"
#include "simpler/errors.h"

#include <cstring>

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace simpler {
namespace {

#if defined(__x86_64__)

// The compiler knows its names only as literals.
bool cpu_has(std::string_view feature) {
  __builtin_cpu_init();
#define SIMPLER_HAS(name)                                                                                              \
  if (feature == name)                                                                                                 \
  return __builtin_cpu_supports(name) != 0
  SIMPLER_HAS("avx512vnni");
  SIMPLER_HAS("avx512ifma");
  SIMPLER_HAS("avx512vbmi");
  SIMPLER_HAS("avx512vbmi2");
  SIMPLER_HAS("avx512bitalg");
  SIMPLER_HAS("avx512vpopcntdq");
  SIMPLER_HAS("gfni");
  SIMPLER_HAS("sse4a");
  SIMPLER_HAS("fma4");
  SIMPLER_HAS("xop");
  const auto v2 = [] { return __builtin_cpu_supports("sse4.2") != 0 && __builtin_cpu_supports("popcnt") != 0; };
  const auto v3 = [&] {
    return v2() && __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0 &&
           __builtin_cpu_supports("bmi2") != 0;
  };
  if (feature == "x86-64")
    return true;
  if (feature == "x86-64-v2")
    return v2();
  if (feature == "x86-64-v3")
    return v3();
  if (feature == "x86-64-v4")
    return v3() && __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
           __builtin_cpu_supports("avx512cd") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
           __builtin_cpu_supports("avx512vl") != 0;
#undef SIMPLER_HAS
  return false;
}

std::string this_cpu() {
  for (const char *base : {"x86-64-v4", "x86-64-v3", "x86-64-v2"})
    if (cpu_has(base))
      return base;
  return "x86-64";
}

#elif defined(__aarch64__)

bool cpu_has(std::string_view feature) {
  if (feature == "aarch64")
    return true;
#ifdef __linux__
  const unsigned long has = getauxval(AT_HWCAP), has2 = getauxval(AT_HWCAP2);
  if (feature == "atomics")
    return (has & HWCAP_ATOMICS) != 0;
  if (feature == "asimddp")
    return (has & HWCAP_ASIMDDP) != 0;
  if (feature == "asimdhp")
    return (has & HWCAP_ASIMDHP) != 0;
  if (feature == "sve")
    return (has & HWCAP_SVE) != 0;
  if (feature == "sve2")
    return (has2 & HWCAP2_SVE2) != 0;
  return false;
#else
  return true; // one vendor, whose compilers and CPUs come together
#endif
}

std::string this_cpu() { return "aarch64"; }

#else

bool cpu_has(std::string_view feature) { return feature == "unknown"; }
std::string this_cpu() { return "unknown"; }

#endif

} // namespace

std::string missing_of_target(std::string_view target) {
  std::string missing;
  while (!target.empty()) {
    const size_t end = std::min(target.find('+'), target.size());
    const std::string_view feature = target.substr(0, end);
    if (!cpu_has(feature))
      missing += (missing.empty() ? "" : ", ") + std::string(feature);
    target.remove_prefix(std::min(end + 1, target.size()));
  }
  return missing;
}

void check_stamp(Bytes object, const std::string &name) {
  ObjectStamp stamp;
  const Bytes content = note_of(object, "simpler", STAMP_NOTE_TYPE);
  const size_t before = offsetof(ObjectStamp, abi_version);
  const auto refuse = [&](const std::string &why) {
    throw CallableError("can't load '" + name + "': " + why +
                        "; compile it again, with the headers of this version, on a machine like this one");
  };
  if (content.size() < sizeof stamp - before)
    refuse("it carries no stamp of simpler, so nobody knows which kernel ABI it speaks (this is kernel ABI " +
           std::to_string(KERNEL_ABI_VERSION) + ")");
  std::memcpy(reinterpret_cast<char *>(&stamp) + before, content.data(), sizeof stamp - before);
  if (stamp.abi_version != KERNEL_ABI_VERSION)
    refuse("it speaks kernel ABI " + std::to_string(stamp.abi_version) + ", this is kernel ABI " +
           std::to_string(KERNEL_ABI_VERSION));
  stamp.target[sizeof stamp.target - 1] = 0;
  if (const std::string missing = missing_of_target(stamp.target); !missing.empty())
    refuse("it was compiled for " + std::string(stamp.target) + ", and this CPU (" + this_cpu() + ") has no " +
           missing);
}

} // namespace simpler
