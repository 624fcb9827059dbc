// Reductions along rows (to a column) and along columns (to a row).
//
// Floats are summed in 16 interleaved partial sums, which are then added pairwise: the same order on every machine, and
// more accurate than one sum. Float16 and BFloat16 are reduced in float and rounded once. Integer sums wrap.
// Maxima and minima propagate NaN; those of nothing fail the kernel, the sum of nothing is 0.
#pragma once

#include "simpler/tile/tile.h"

namespace simpler::tile {
namespace detail {

// The reductions work on vectors of `Lane` and, for what is left, on one value at a time.

template <class T> struct ReduceSum {
  static_assert(!is_bool<T>, "sums are not defined for bool tiles: cast first");
  using Lane = typename Element<T>::Sum;
  static constexpr bool OF_NOTHING = true;
  static constexpr Lane identity() { return Lane{0}; }
  template <class V> static void apply(V &total, const V &v) { total = static_cast<V>(total + v); }
};

template <class T> struct ReduceMax {
  using Lane = typename Element<T>::Lane;
  static constexpr bool OF_NOTHING = false;
  static constexpr Lane identity() {
    if constexpr (is_float<T>)
      return -__builtin_inff();
    else
      return SMALLEST<Lane>;
  }
  template <class V> static void apply(V &best, const V &v) {
    if constexpr (is_float<T>)
      best = ((v > best) | (v != v)) ? v : best;
    else
      best = v > best ? v : best;
  }
};

template <class T> struct ReduceMin {
  using Lane = typename Element<T>::Lane;
  static constexpr bool OF_NOTHING = false;
  static constexpr Lane identity() {
    if constexpr (is_float<T>)
      return __builtin_inff();
    else
      return LARGEST<Lane>;
  }
  template <class V> static void apply(V &best, const V &v) {
    if constexpr (is_float<T>)
      best = ((v < best) | (v != v)) ? v : best;
    else
      best = v < best ? v : best;
  }
};

inline constexpr int REDUCE_LANES = 16;

// The most lanes up to `most` that one vector of the machine holds.
template <class Lane> constexpr int lanes_of_vector(int most) {
  constexpr int FULL = VECTOR_BYTES / static_cast<int>(sizeof(Lane));
  return power_of_two_up_to(most < FULL ? most : FULL);
}

// The reduction of n consecutive elements.
template <class Reduce, class T> inline typename Reduce::Lane reduce_run(const T *from, int n) {
  using Lane = typename Reduce::Lane;
  constexpr int N = lanes_of_vector<Lane>(REDUCE_LANES), PARTS = REDUCE_LANES / N;
  Lane lanes[REDUCE_LANES];
  for (int l = 0; l < REDUCE_LANES; ++l)
    lanes[l] = Reduce::identity();
  const int whole = n - n % REDUCE_LANES;
  if (whole != 0) {
    Vector<Lane, N> totals[PARTS], v;
    for (int p = 0; p < PARTS; ++p)
      load_vector<Lane, N>(totals[p], from + p * N);
    for (int i = REDUCE_LANES; i < whole; i += REDUCE_LANES)
      for (int p = 0; p < PARTS; ++p) {
        load_vector<Lane, N>(v, from + i + p * N);
        Reduce::apply(totals[p], v);
      }
    __builtin_memcpy(lanes, totals, sizeof lanes);
  }
  for (int i = whole; i < n; ++i)
    Reduce::apply(lanes[i - whole], static_cast<Lane>(get(from[i])));
  for (int half = REDUCE_LANES / 2; half != 0; half /= 2)
    for (int l = 0; l < half; ++l)
      Reduce::apply(lanes[l], lanes[l + half]);
  return lanes[0];
}

template <class Reduce, class T, int R, int C>
inline void reduce_rows(const char *op, Tile<T, R, 1> &out, const Tile<T, R, C> &a) {
  if (!Reduce::OF_NOTHING && a.cols == 0 && a.rows != 0)
    a.core->fail(op, "the valid region is %dx0: there is nothing to reduce", a.rows);
  for (int r = 0; r < a.rows; ++r)
    out.data[r] = static_cast<T>(reduce_run<Reduce>(a.data + r * C, a.cols));
  out.rows = a.rows;
  out.cols = 1;
  publish(out.data);
}

// A block of columns at a time, a vector wide. The last block of the tile is moved left so that it ends with the tile:
// columns that are reduced twice give the same result twice, invalid ones are computed and not stored.
template <class Reduce, class T, int R, int C>
inline void reduce_cols(const char *op, Tile<T, 1, C> &out, const Tile<T, R, C> &a) {
  using Lane = typename Reduce::Lane;
  constexpr int N = lanes_of_vector<Lane>(C);
  constexpr int CHAINS = 4; // rows r, r + 4, … form one chain: independent additions, smaller rounding errors
  if (!Reduce::OF_NOTHING && a.rows == 0 && a.cols != 0)
    a.core->fail(op, "the valid region is 0x%d: there is nothing to reduce", a.cols);
  for (int c = 0; c < a.cols; c += N) {
    const int first = c + N <= C ? c : C - N;
    const T *column = a.data + first;
    Vector<Lane, N> totals[CHAINS], v;
    for (int k = 0; k < CHAINS; ++k)
      totals[k] = Reduce::identity() - Vector<Lane, N>{};
    int r = 0;
    for (; r + CHAINS <= a.rows; r += CHAINS)
      for (int k = 0; k < CHAINS; ++k) {
        load_vector<Lane, N>(v, column + (r + k) * C);
        Reduce::apply(totals[k], v);
      }
    for (int k = 0; r < a.rows; ++r, ++k) {
      load_vector<Lane, N>(v, column + r * C);
      Reduce::apply(totals[k], v);
    }
    Reduce::apply(totals[0], totals[1]);
    Reduce::apply(totals[2], totals[3]);
    Reduce::apply(totals[0], totals[2]);
    for (int l = c - first; l < N && first + l < a.cols; ++l)
      out.data[first + l] = static_cast<T>(totals[0][l]);
  }
  out.rows = 1;
  out.cols = a.cols;
  publish(out.data);
}

} // namespace detail

// out[r, 0] over the valid columns of row r.
template <class T, int R, int C> inline void row_sum(Tile<T, R, 1> &out, const Tile<T, R, C> &a) {
  detail::reduce_rows<detail::ReduceSum<T>>("row_sum", out, a);
}
template <class T, int R, int C> inline void row_max(Tile<T, R, 1> &out, const Tile<T, R, C> &a) {
  detail::reduce_rows<detail::ReduceMax<T>>("row_max", out, a);
}
template <class T, int R, int C> inline void row_min(Tile<T, R, 1> &out, const Tile<T, R, C> &a) {
  detail::reduce_rows<detail::ReduceMin<T>>("row_min", out, a);
}

// out[0, c] over the valid rows of column c.
template <class T, int R, int C> inline void col_sum(Tile<T, 1, C> &out, const Tile<T, R, C> &a) {
  detail::reduce_cols<detail::ReduceSum<T>>("col_sum", out, a);
}
template <class T, int R, int C> inline void col_max(Tile<T, 1, C> &out, const Tile<T, R, C> &a) {
  detail::reduce_cols<detail::ReduceMax<T>>("col_max", out, a);
}
template <class T, int R, int C> inline void col_min(Tile<T, 1, C> &out, const Tile<T, R, C> &a) {
  detail::reduce_cols<detail::ReduceMin<T>>("col_min", out, a);
}

} // namespace simpler::tile
