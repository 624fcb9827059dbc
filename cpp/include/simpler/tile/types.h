// Element types of tiles: the two 16-bit floats, what each type computes in, and short vectors of them.
#pragma once

#include "simpler/tensor.h"

namespace simpler {

namespace tile::detail {

// The conversions below take one value or a vector of them: U is uint32_t or a vector of it, F is float or a vector
// of it. They are integer arithmetic without branches, because GCC 12 vectorises neither _Float16 nor __bf16
// conversions; written so, they vectorise everywhere and need no F16C. Vectors go in and out by reference: passing one
// that is wider than the machine's by value makes GCC warn about its ABI.

template <class F, class U> inline void widen_float16(F &value, const U &half) {
  const U magnitude = (half & 0x7fffu) << 13;
  const U exponent = half & 0x7c00u;
  const U normal = magnitude + (112u << 23);
  // A subnormal half m·2^-24 is the fraction of a float in [2^-14, 2^-13): no subnormal float is touched.
  const U subnormal = __builtin_bit_cast(U, __builtin_bit_cast(F, magnitude + (113u << 23)) - 0x1p-14f);
  const U special = magnitude | 0x7f800000u;
  const U bits = exponent == 0u ? subnormal : (exponent == 0x7c00u ? special : normal);
  value = __builtin_bit_cast(F, bits | ((half & 0x8000u) << 16));
}

// Rounds to nearest, ties to even; from 65520 on to infinity. A NaN stays one.
template <class U, class F> inline void narrow_float16(U &half, const F &value) {
  const U bits = __builtin_bit_cast(U, value);
  const U magnitude = bits & 0x7fffffffu;
  const U normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Below 2^-14: adding 0.5 leaves the float unit round to a multiple of 2^-24.
  const U subnormal = __builtin_bit_cast(U, __builtin_bit_cast(F, magnitude) + 0.5f) - 0x3f000000u;
  const U nan = ((magnitude >> 13) & 0x3ffu) | 0x7e00u;
  const U infinity = (magnitude & 0u) | 0x7c00u;
  half = magnitude < 0x38800000u ? subnormal : normal;
  half = magnitude >= 0x477ff000u ? infinity : half;
  half = magnitude > 0x7f800000u ? nan : half;
  half |= (bits >> 16) & 0x8000u;
}

template <class F, class U> inline void widen_bfloat16(F &value, const U &half) {
  value = __builtin_bit_cast(F, half << 16);
}

// Rounds to nearest, ties to even. A NaN stays one.
template <class U, class F> inline void narrow_bfloat16(U &half, const F &value) {
  const U bits = __builtin_bit_cast(U, value);
  const U rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const U nan = (bits >> 16) | 0x40u;
  half = (bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded;
}

} // namespace tile::detail

// IEEE 754 binary16, in memory only: it converts to and from float, which computes.
struct Float16 {
  uint16_t bits;
  Float16() = default;
  explicit Float16(float value) {
    uint32_t half;
    tile::detail::narrow_float16(half, value);
    bits = static_cast<uint16_t>(half);
  }
  explicit operator float() const {
    float value;
    tile::detail::widen_float16(value, static_cast<uint32_t>(bits));
    return value;
  }
};

// bfloat16, the upper half of a float; in memory only, as Float16.
struct BFloat16 {
  uint16_t bits;
  BFloat16() = default;
  explicit BFloat16(float value) {
    uint32_t half;
    tile::detail::narrow_bfloat16(half, value);
    bits = static_cast<uint16_t>(half);
  }
  explicit operator float() const {
    float value;
    tile::detail::widen_bfloat16(value, static_cast<uint32_t>(bits));
    return value;
  }
};

namespace tile::detail {

template <class A, class B> inline constexpr bool same = false;
template <class A> inline constexpr bool same<A, A> = true;

// What is known of an element type. `Value`: what operations compute in. `Word`: unsigned, at least as wide, wraps
// without undefined behaviour (32 bits at least, because narrower ones promote to int). `Lane`: a type that may be an
// element of a vector; `Sum`: one that may wrap.
template <class T> struct Element;

template <DataType D, class V, class W, class L, class S> struct ElementOf {
  static constexpr DataType dtype = D;
  static constexpr bool is_float = same<V, float>;
  using Value = V;
  using Word = W;
  using Lane = L;
  using Sum = S;
};

template <> struct Element<float> : ElementOf<DataType::FLOAT32, float, float, float, float> {};
template <> struct Element<Float16> : ElementOf<DataType::FLOAT16, float, float, float, float> {};
template <> struct Element<BFloat16> : ElementOf<DataType::BFLOAT16, float, float, float, float> {};
template <> struct Element<int8_t> : ElementOf<DataType::INT8, int8_t, uint32_t, int8_t, uint8_t> {};
template <> struct Element<int16_t> : ElementOf<DataType::INT16, int16_t, uint32_t, int16_t, uint16_t> {};
template <> struct Element<int32_t> : ElementOf<DataType::INT32, int32_t, uint32_t, int32_t, uint32_t> {};
template <> struct Element<int64_t> : ElementOf<DataType::INT64, int64_t, uint64_t, int64_t, uint64_t> {};
template <> struct Element<uint8_t> : ElementOf<DataType::UINT8, uint8_t, uint32_t, uint8_t, uint8_t> {};
template <> struct Element<uint16_t> : ElementOf<DataType::UINT16, uint16_t, uint32_t, uint16_t, uint16_t> {};
template <> struct Element<uint32_t> : ElementOf<DataType::UINT32, uint32_t, uint32_t, uint32_t, uint32_t> {};
template <> struct Element<uint64_t> : ElementOf<DataType::UINT64, uint64_t, uint64_t, uint64_t, uint64_t> {};
template <> struct Element<bool> : ElementOf<DataType::BOOL, bool, uint32_t, uint8_t, uint8_t> {};

template <class T> inline constexpr bool is_float = Element<T>::is_float;
template <class T> inline constexpr bool is_bool = same<T, bool>;
template <class T> inline constexpr bool is_signed = !is_float<T> && static_cast<typename Element<T>::Lane>(-1) < 0;
template <class T> using Value = typename Element<T>::Value;

template <class T> inline Value<T> get(T element) { return static_cast<Value<T>>(element); }

// The smallest and largest value of an integer type.
template <class T>
inline constexpr T LARGEST =
    is_signed<T> ? static_cast<T>((uint64_t{1} << (8 * sizeof(T) - 1)) - 1) : static_cast<T>(~uint64_t{0});
template <class T> inline constexpr T SMALLEST = is_signed<T> ? static_cast<T>(-LARGEST<T> - 1) : T{0};

// ---- short vectors ------------------------------------------------------------------------------------------------

template <class T, int N> struct VectorOf {
  typedef T type __attribute__((vector_size(N * sizeof(T))));
};
template <class T, int N> using Vector = typename VectorOf<T, N>::type;

// Bytes of the machine's own vectors: GCC 12 handles wider ones, but takes their comparisons apart.
#if defined(__AVX512F__)
inline constexpr int VECTOR_BYTES = 64;
#elif defined(__AVX2__)
inline constexpr int VECTOR_BYTES = 32;
#else
inline constexpr int VECTOR_BYTES = 16;
#endif

// Largest power of two that is at most n.
constexpr int power_of_two_up_to(int n) {
  int p = 1;
  while (p <= n / 2)
    p *= 2;
  return p;
}

// N elements from memory as a vector of S, which is float for the float types.
template <class S, int N, class T> inline void load_vector(Vector<S, N> &to, const T *from) {
  if constexpr (same<T, Float16> || same<T, BFloat16>) {
    Vector<uint16_t, N> raw;
    __builtin_memcpy(&raw, from, sizeof raw);
    const auto bits = __builtin_convertvector(raw, Vector<uint32_t, N>);
    if constexpr (same<T, Float16>)
      widen_float16(to, bits);
    else
      widen_bfloat16(to, bits);
  } else {
    Vector<typename Element<T>::Lane, N> raw;
    __builtin_memcpy(&raw, from, sizeof raw);
    to = __builtin_convertvector(raw, Vector<S, N>);
  }
}

} // namespace tile::detail
} // namespace simpler
