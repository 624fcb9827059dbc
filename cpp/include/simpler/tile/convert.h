// cast and transpose.
#pragma once

#include "simpler/tile/tile.h"

namespace simpler::tile {
namespace detail {

// Value of one type as another: see cast.
template <class To, class From> inline To converted(From from) {
  if constexpr (is_bool<To>) {
    return get(from) != 0;
  } else if constexpr (is_float<From> && !is_float<To>) {
    // The limits as floats are exact powers of two (or rounded up to one), so "at least" is the right comparison.
    constexpr float TOO_LARGE = static_cast<float>(LARGEST<To> / 2 + 1) * 2.0f;
    const float value = get(from);
    const bool large = value >= TOO_LARGE, small = value < static_cast<float>(SMALLEST<To>);
    const To inside = static_cast<To>((large | small | (value != value)) ? 0.0f : value);
    return large ? LARGEST<To> : (small ? SMALLEST<To> : inside);
  } else if constexpr (is_float<To>) {
    return static_cast<To>(static_cast<float>(get(from)));
  } else {
    return static_cast<To>(from);
  }
}

} // namespace detail

// out = a with out's element type. Float to float rounds to nearest even; float to integer truncates toward zero,
// saturates, and NaN gives 0; integer to integer wraps; anything but 0 is true. Integers become Float16 and BFloat16
// by way of float.
template <class U, class T, int R, int C> inline void cast(Tile<U, R, C> &out, const Tile<T, R, C> &a) {
  const detail::Runs<C> runs(a.rows, a.cols);
  for (int r = 0; r < runs.count; ++r) {
    U *to = out.data + r * C;
    const T *from = a.data + r * C;
    SIMPLER_INDEPENDENT
    for (int i = 0; i < runs.length; ++i)
      to[i] = detail::converted<U>(from[i]);
  }
  out.rows = a.rows;
  out.cols = a.cols;
  detail::publish(out.data);
}

// out[c, r] = a[r, c]. `out` is another tile than `a`.
template <class T, int R, int C> inline void transpose(Tile<T, C, R> &out, const Tile<T, R, C> &a) {
  constexpr int BLOCK = 16; // of rows and columns: both sides stay within few cache lines
  for (int r0 = 0; r0 < a.rows; r0 += BLOCK) {
    const int r1 = r0 + BLOCK < a.rows ? r0 + BLOCK : a.rows;
    for (int c0 = 0; c0 < a.cols; c0 += BLOCK) {
      const int c1 = c0 + BLOCK < a.cols ? c0 + BLOCK : a.cols;
      for (int c = c0; c < c1; ++c)
        for (int r = r0; r < r1; ++r)
          out.data[c * R + r] = a.data[r * C + c];
    }
  }
  out.rows = a.cols;
  out.cols = a.rows;
}

} // namespace simpler::tile
