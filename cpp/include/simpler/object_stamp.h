// The stamp that every object compiled with these headers carries: which kernel ABI it speaks, for which CPU it was
// compiled. It is an ELF note, so that it can be read before anything of the object runs.
#pragma once

#include <cstdint>

namespace simpler {

// Counts the incompatible changes of Core, Graph, Task and of the layouts they carry.
inline constexpr uint32_t KERNEL_ABI_VERSION = 2;

namespace detail {

// What the compiler may use beside the base of its architecture, one "+name" for each, by the names that
// __builtin_cpu_supports() knows on x86 and /proc/cpuinfo on Arm.
#if defined(__x86_64__)
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512CD__) && defined(__AVX512DQ__) &&                 \
    defined(__AVX512VL__)
#define SIMPLER_TARGET_BASE "x86-64-v4"
#elif defined(__AVX2__) && defined(__FMA__) && defined(__BMI2__) && defined(__F16C__) && defined(__LZCNT__)
#define SIMPLER_TARGET_BASE "x86-64-v3"
#elif defined(__SSE4_2__) && defined(__SSSE3__) && defined(__POPCNT__)
#define SIMPLER_TARGET_BASE "x86-64-v2"
#else
#define SIMPLER_TARGET_BASE "x86-64"
#endif
#elif defined(__aarch64__)
#define SIMPLER_TARGET_BASE "aarch64"
#else
#define SIMPLER_TARGET_BASE "unknown"
#endif

inline constexpr char TARGET[] = SIMPLER_TARGET_BASE
#ifdef __AVX512VNNI__
    "+avx512vnni"
#endif
#ifdef __AVX512IFMA__
    "+avx512ifma"
#endif
#ifdef __AVX512VBMI__
    "+avx512vbmi"
#endif
#ifdef __AVX512VBMI2__
    "+avx512vbmi2"
#endif
#ifdef __AVX512BITALG__
    "+avx512bitalg"
#endif
#ifdef __AVX512VPOPCNTDQ__
    "+avx512vpopcntdq"
#endif
#ifdef __GFNI__
    "+gfni"
#endif
#ifdef __SSE4A__
    "+sse4a"
#endif
#ifdef __FMA4__
    "+fma4"
#endif
#ifdef __XOP__
    "+xop"
#endif
#ifdef __ARM_FEATURE_ATOMICS
    "+atomics"
#endif
#ifdef __ARM_FEATURE_DOTPROD
    "+asimddp"
#endif
#ifdef __ARM_FEATURE_FP16_VECTOR_ARITHMETIC
    "+asimdhp"
#endif
#ifdef __ARM_FEATURE_SVE
    "+sve"
#endif
#ifdef __ARM_FEATURE_SVE2
    "+sve2"
#endif
    ;
#undef SIMPLER_TARGET_BASE

} // namespace detail

inline constexpr uint32_t STAMP_NOTE_TYPE = 0x53494d50; // "SIMP"

// An ELF note: three words, the owner's name, then what it says.
struct ObjectStamp {
  uint32_t name_nbytes = sizeof name;
  uint32_t content_nbytes = sizeof abi_version + sizeof target;
  uint32_t type = STAMP_NOTE_TYPE;
  char name[8] = "simpler";
  uint32_t abi_version = KERNEL_ABI_VERSION;
  char target[128] = {};
};
static_assert(sizeof(ObjectStamp) == 12 + 8 + 4 + 128);

namespace detail {

constexpr ObjectStamp stamp() {
  ObjectStamp made;
  static_assert(sizeof TARGET <= sizeof made.target);
  for (unsigned i = 0; i < sizeof TARGET; ++i)
    made.target[i] = TARGET[i];
  return made;
}

#ifdef __ELF__
[[gnu::used, gnu::section(".note.simpler"), gnu::aligned(4)]] static constexpr ObjectStamp STAMP = stamp();
#endif

} // namespace detail
} // namespace simpler
