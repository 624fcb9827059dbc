// Element by element: two tiles, a tile and a scalar, one tile; full.
//
// `out` may be an operand. Its valid region becomes that of the operands. Float16 and BFloat16 compute in float and are
// rounded once. Integers wrap. A scalar is converted to the tile's element type first. On bool tiles add and maximum
// mean "or", mul and minimum mean "and"; sub, neg and div are not defined.
#pragma once

#include "simpler/tile/math.h"
#include "simpler/tile/tile.h"

namespace simpler::tile {
namespace detail {

// ---- what is done with one element: of T's Value, giving T's Value or Word (which wraps when it becomes T again) ----

template <class T> struct Add {
  static auto apply(Value<T> a, Value<T> b) {
    using W = typename Element<T>::Word;
    return static_cast<W>(a) + static_cast<W>(b);
  }
};

template <class T> struct Sub {
  static_assert(!is_bool<T>, "sub is not defined for bool tiles");
  static auto apply(Value<T> a, Value<T> b) {
    using W = typename Element<T>::Word;
    return static_cast<W>(a) - static_cast<W>(b);
  }
};

template <class T> struct Mul {
  static auto apply(Value<T> a, Value<T> b) {
    using W = typename Element<T>::Word;
    return static_cast<W>(a) * static_cast<W>(b);
  }
};

// Integers: truncates toward zero; the smallest value by -1 wraps to itself; who calls has excluded b == 0.
template <class T> struct Div {
  static_assert(!is_bool<T>, "div is not defined for bool tiles");
  static auto apply(Value<T> a, Value<T> b) {
    using W = typename Element<T>::Word;
    if constexpr (is_signed<T>)
      return b == -1 ? W{0} - static_cast<W>(a) : static_cast<W>(a / b);
    else
      return static_cast<W>(a) / static_cast<W>(b);
  }
};

// NaN where either operand is, as numpy.maximum and numpy.minimum.
template <class T> struct Maximum {
  static Value<T> apply(Value<T> a, Value<T> b) {
    if constexpr (is_float<T>)
      return ((a > b) | (a != a)) ? a : b;
    else
      return a > b ? a : b;
  }
};

template <class T> struct Minimum {
  static Value<T> apply(Value<T> a, Value<T> b) {
    if constexpr (is_float<T>)
      return ((a < b) | (a != a)) ? a : b;
    else
      return a < b ? a : b;
  }
};

template <class T> struct Neg {
  static_assert(!is_bool<T>, "neg is not defined for bool tiles");
  static auto apply(Value<T> a) {
    if constexpr (is_float<T>)
      return -a; // 0 - a would lose the sign of zero
    else
      return typename Element<T>::Word{0} - static_cast<typename Element<T>::Word>(a);
  }
};

template <class T> struct Abs {
  static auto apply(Value<T> a) {
    if constexpr (is_float<T>)
      return __builtin_fabsf(a);
    else if constexpr (is_signed<T>)
      return a < 0 ? Neg<T>::apply(a) : static_cast<typename Element<T>::Word>(a);
    else
      return a;
  }
};

// A NaN stays one.
template <class T> struct Relu {
  static Value<T> apply(Value<T> a) {
    if constexpr (is_float<T>)
      return ((a > 0.0f) | (a != a)) ? a : 0.0f;
    else if constexpr (is_signed<T>)
      return a > 0 ? a : Value<T>{0};
    else
      return a;
  }
};

template <class T> struct FloatOnly {
  static_assert(is_float<T>, "exp, log, sqrt, rsqrt and recip need a float tile: cast first");
};
template <class T> struct Exp : FloatOnly<T> {
  static float apply(float a) { return exp(a); }
};
template <class T> struct Log : FloatOnly<T> {
  static float apply(float a) { return log(a); }
};
template <class T> struct Sqrt : FloatOnly<T> {
  static float apply(float a) { return __builtin_sqrtf(a); }
};
template <class T> struct Rsqrt : FloatOnly<T> {
  static float apply(float a) { return 1.0f / __builtin_sqrtf(a); }
};
template <class T> struct Recip : FloatOnly<T> {
  static float apply(float a) { return 1.0f / a; }
};

// ---- over a tile --------------------------------------------------------------------------------------------------

// Up to N elements of a 16-bit float type as floats.
template <int N> struct Widened {
  template <class T> Widened(const T *from, int count) {
    SIMPLER_INDEPENDENT
    for (int i = 0; i < count; ++i)
      values[i] = get(from[i]);
  }
  float values[N];
};

// to[i] = f(from[i]…) for n consecutive elements, f taking and giving what operations compute in.
template <class T, class F, class... From> inline void map(T *to, int n, const F &f, const From *...from) {
  if constexpr (is_float<T> && !same<T, float>) {
    // In pieces of floats: conversion and computation in one loop are more than GCC 12 vectorises.
    constexpr int PIECE = 64;
    float result[PIECE];
    for (int start = 0; start < n; start += PIECE) {
      const int count = n - start < PIECE ? n - start : PIECE;
      map(result, count, f, static_cast<const float *>(Widened<PIECE>(from + start, count).values)...);
      SIMPLER_INDEPENDENT
      for (int i = 0; i < count; ++i)
        to[start + i] = static_cast<T>(result[i]);
    }
  } else {
    SIMPLER_INDEPENDENT
    for (int i = 0; i < n; ++i)
      to[i] = static_cast<T>(f(get(from[i])...));
  }
}

// map over the valid region of the operands, which becomes that of `out`.
template <class T, int R, int C, class F, class... Rest>
inline void map_tile(Tile<T, R, C> &out, const F &f, const Tile<T, R, C> &a, const Rest &...rest) {
  const Runs<C> runs(a.rows, a.cols);
  for (int r = 0; r < runs.count; ++r)
    map(out.data + r * C, runs.length, f, a.data + r * C, rest.data + r * C...);
  out.rows = a.rows;
  out.cols = a.cols;
  publish(out.data);
}

template <class Op, class T, int R, int C> inline void unary(Tile<T, R, C> &out, const Tile<T, R, C> &a) {
  map_tile(out, [](Value<T> x) { return Op::apply(x); }, a);
}

template <class Op, class T, int R, int C>
inline void binary(const char *op, Tile<T, R, C> &out, const Tile<T, R, C> &a, const Tile<T, R, C> &b) {
  check_regions(op, a, b);
  map_tile(out, [](Value<T> x, Value<T> y) { return Op::apply(x, y); }, a, b);
}

template <class Op, class T, int R, int C>
inline void binary_scalar(Tile<T, R, C> &out, const Tile<T, R, C> &a, Value<T> b) {
  map_tile(out, [b](Value<T> x) { return Op::apply(x, b); }, a);
}

// Fails the kernel when an integer divisor is zero. A pass of its own, so that both loops vectorise.
template <class T, int R, int C> inline void check_divisor(const char *op, const Tile<T, R, C> &b) {
  if constexpr (!is_float<T>) {
    for (int r = 0; r < b.rows; ++r) {
      const T *row = b.data + r * C;
      int zeros = 0;
      for (int c = 0; c < b.cols; ++c)
        zeros += row[c] == 0;
      if (zeros != 0) {
        int c = 0;
        while (row[c] != 0)
          ++c;
        b.core->fail(op, "integer division by zero: element [%d, %d] of the divisor", r, c);
      }
    }
  }
}

template <class S>
concept Scalar = requires(S value) { static_cast<float>(value); };
template <class S>
concept Integral = requires(S value) { value % 2; };

// The scalar operand of a tile of T, as a Value<T>.
template <class T, Scalar S> inline Value<T> scalar(S value) {
  static_assert(is_float<T> || Integral<S>, "the scalar operand of an integer or bool tile is an integer or bool");
  if constexpr (is_float<T>)
    return get(static_cast<T>(static_cast<float>(value)));
  else
    return static_cast<T>(value);
}

} // namespace detail

template <class T, int R, int C> inline void add(Tile<T, R, C> &out, const Tile<T, R, C> &a, const Tile<T, R, C> &b) {
  detail::binary<detail::Add<T>>("add", out, a, b);
}
template <class T, int R, int C, detail::Scalar S> inline void add(Tile<T, R, C> &out, const Tile<T, R, C> &a, S b) {
  detail::binary_scalar<detail::Add<T>>(out, a, detail::scalar<T>(b));
}

template <class T, int R, int C> inline void sub(Tile<T, R, C> &out, const Tile<T, R, C> &a, const Tile<T, R, C> &b) {
  detail::binary<detail::Sub<T>>("sub", out, a, b);
}
template <class T, int R, int C, detail::Scalar S> inline void sub(Tile<T, R, C> &out, const Tile<T, R, C> &a, S b) {
  detail::binary_scalar<detail::Sub<T>>(out, a, detail::scalar<T>(b));
}

template <class T, int R, int C> inline void mul(Tile<T, R, C> &out, const Tile<T, R, C> &a, const Tile<T, R, C> &b) {
  detail::binary<detail::Mul<T>>("mul", out, a, b);
}
template <class T, int R, int C, detail::Scalar S> inline void mul(Tile<T, R, C> &out, const Tile<T, R, C> &a, S b) {
  detail::binary_scalar<detail::Mul<T>>(out, a, detail::scalar<T>(b));
}

// Integers truncate toward zero; an integer divisor of zero fails the kernel.
template <class T, int R, int C> inline void div(Tile<T, R, C> &out, const Tile<T, R, C> &a, const Tile<T, R, C> &b) {
  detail::check_regions("div", a, b);
  detail::check_divisor("div", b);
  detail::binary<detail::Div<T>>("div", out, a, b);
}
template <class T, int R, int C, detail::Scalar S> inline void div(Tile<T, R, C> &out, const Tile<T, R, C> &a, S b) {
  const auto divisor = detail::scalar<T>(b);
  if (!detail::is_float<T> && divisor == 0)
    a.core->fail("div", "integer division by zero: the divisor is 0");
  detail::binary_scalar<detail::Div<T>>(out, a, divisor);
}

template <class T, int R, int C>
inline void maximum(Tile<T, R, C> &out, const Tile<T, R, C> &a, const Tile<T, R, C> &b) {
  detail::binary<detail::Maximum<T>>("maximum", out, a, b);
}
template <class T, int R, int C, detail::Scalar S>
inline void maximum(Tile<T, R, C> &out, const Tile<T, R, C> &a, S b) {
  detail::binary_scalar<detail::Maximum<T>>(out, a, detail::scalar<T>(b));
}

template <class T, int R, int C>
inline void minimum(Tile<T, R, C> &out, const Tile<T, R, C> &a, const Tile<T, R, C> &b) {
  detail::binary<detail::Minimum<T>>("minimum", out, a, b);
}
template <class T, int R, int C, detail::Scalar S>
inline void minimum(Tile<T, R, C> &out, const Tile<T, R, C> &a, S b) {
  detail::binary_scalar<detail::Minimum<T>>(out, a, detail::scalar<T>(b));
}

template <class T, int R, int C> inline void neg(Tile<T, R, C> &out, const Tile<T, R, C> &a) {
  detail::unary<detail::Neg<T>>(out, a);
}
template <class T, int R, int C> inline void abs(Tile<T, R, C> &out, const Tile<T, R, C> &a) {
  detail::unary<detail::Abs<T>>(out, a);
}
template <class T, int R, int C> inline void relu(Tile<T, R, C> &out, const Tile<T, R, C> &a) {
  detail::unary<detail::Relu<T>>(out, a);
}

// Float tiles only. exp and log are within 2 ulp, sqrt and recip correctly rounded, rsqrt is 1 / sqrt.
template <class T, int R, int C> inline void exp(Tile<T, R, C> &out, const Tile<T, R, C> &a) {
  detail::unary<detail::Exp<T>>(out, a);
}
template <class T, int R, int C> inline void log(Tile<T, R, C> &out, const Tile<T, R, C> &a) {
  detail::unary<detail::Log<T>>(out, a);
}
template <class T, int R, int C> inline void sqrt(Tile<T, R, C> &out, const Tile<T, R, C> &a) {
  detail::unary<detail::Sqrt<T>>(out, a);
}
template <class T, int R, int C> inline void rsqrt(Tile<T, R, C> &out, const Tile<T, R, C> &a) {
  detail::unary<detail::Rsqrt<T>>(out, a);
}
template <class T, int R, int C> inline void recip(Tile<T, R, C> &out, const Tile<T, R, C> &a) {
  detail::unary<detail::Recip<T>>(out, a);
}

// Every element of out's valid region = value.
template <class T, int R, int C, detail::Scalar S> inline void full(Tile<T, R, C> &out, S value) {
  const T element = static_cast<T>(detail::scalar<T>(value));
  const detail::Runs<C> runs(out.rows, out.cols);
  for (int r = 0; r < runs.count; ++r)
    for (int i = 0; i < runs.length; ++i)
      out.data[r * C + i] = element;
}

} // namespace simpler::tile
