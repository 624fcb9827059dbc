// Matrix products.
//
// A block of rows x vectors of the result is held in registers while K is walked once, upwards: every element is one
// chain of multiply-adds in the order of K, so results don't depend on tile shapes or on where the valid region ends.
// Blocks at the right and lower edge of a tile are moved back inside it: nothing outside the tile is touched, no second
// kernel is needed for the edges, and elements that are computed twice or are invalid are not stored.
#pragma once

#include "simpler/tile/tile.h"

namespace simpler::tile {
namespace detail {

// What products are summed in: float for the float types; for integers 32 bits, for 64-bit ones 64.
template <class T> struct Product {
  static_assert(!is_bool<T>, "matmul is not defined for bool tiles");
  using Sum = typename Element<T>::Word; // wraps
  using Out = Sum;                       // signed where T is
};
template <> struct Product<int8_t> : Product<uint32_t> {
  using Out = int32_t;
};
template <> struct Product<int16_t> : Product<uint32_t> {
  using Out = int32_t;
};
template <> struct Product<int32_t> : Product<uint32_t> {
  using Out = int32_t;
};
template <> struct Product<int64_t> : Product<uint64_t> {
  using Out = int64_t;
};
template <> struct Product<uint8_t> : Product<uint32_t> {
  using Out = int32_t;
};
template <> struct Product<uint16_t> : Product<uint32_t> {
  using Out = int32_t;
};

// Rows of a block: with two vectors a row its sums fill most of the vector registers, 32 or 16.
#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr int ROWS_IN_REGISTERS = 12;
#else
inline constexpr int ROWS_IN_REGISTERS = 6;
#endif

// Block of the result for tiles a[M, K] and b[K, N].
template <class T, int M, int N> struct Block {
  using Sum = typename Product<T>::Sum;
  static constexpr int FULL_LANES = VECTOR_BYTES / static_cast<int>(sizeof(Sum));
  static constexpr int LANES = power_of_two_up_to(N < FULL_LANES ? N : FULL_LANES);
  static constexpr int VECTORS = N >= 2 * LANES ? 2 : 1;
  static constexpr int COLS = LANES * VECTORS;
  static constexpr int ROWS = M < ROWS_IN_REGISTERS ? M : ROWS_IN_REGISTERS;
};

// sums[i][j] += sum over k of a[i * A_STRIDE + k] * b[k * B_STRIDE + j].
template <class B, int A_STRIDE, int B_STRIDE, class TA, class TB>
inline void multiply_block(typename B::Sum (&sums)[B::ROWS][B::COLS], const TA *a, const TB *b, int depth) {
  using Sum = typename B::Sum;
  using V = Vector<Sum, B::LANES>;
  V acc[B::ROWS][B::VECTORS];
  __builtin_memcpy(acc, sums, sizeof acc);
  for (int k = 0; k < depth; ++k) {
    V right[B::VECTORS];
#pragma GCC unroll 2
    for (int v = 0; v < B::VECTORS; ++v)
      load_vector<Sum, B::LANES>(right[v], b + static_cast<ptrdiff_t>(k) * B_STRIDE + v * B::LANES);
#pragma GCC unroll 12
    for (int i = 0; i < B::ROWS; ++i) {
      const auto left = static_cast<Sum>(get(a[i * A_STRIDE + k]));
#pragma GCC unroll 2
      for (int v = 0; v < B::VECTORS; ++v)
        acc[i][v] += left * right[v];
    }
  }
  __builtin_memcpy(sums, acc, sizeof acc);
}

// Float16 and BFloat16 rows are widened this many at a time: a few KiB of stack.
inline constexpr int WIDENED_DEPTH = 128;

template <class B, int K, int N, class T>
inline void sum_products(typename B::Sum (&sums)[B::ROWS][B::COLS], const T *a, const T *b, int depth) {
  if constexpr (is_float<T> && !same<T, float>) {
    float widened[B::ROWS * WIDENED_DEPTH];
    for (int k0 = 0; k0 < depth; k0 += WIDENED_DEPTH) {
      const int n = depth - k0 < WIDENED_DEPTH ? depth - k0 : WIDENED_DEPTH;
      for (int i = 0; i < B::ROWS; ++i) {
        SIMPLER_INDEPENDENT
        for (int k = 0; k < n; ++k)
          widened[i * WIDENED_DEPTH + k] = get(a[i * K + k0 + k]);
      }
      multiply_block<B, WIDENED_DEPTH, N>(sums, widened, b + static_cast<ptrdiff_t>(k0) * N, n);
    }
  } else {
    multiply_block<B, K, N>(sums, a, b, depth);
  }
}

// out = acc + a b, or a b where acc is null.
template <class O, class T, int M, int K, int N>
inline void multiply(const char *op, Tile<O, M, N> &out, const Tile<O, M, N> *acc, const Tile<T, M, K> &a,
                     const Tile<T, K, N> &b) {
  static_assert(same<O, typename Product<T>::Out> || (is_float<T> && (same<O, float> || same<O, T>)),
                "matmul gives float for float tiles (or their own type), int32_t for integers of up to 32 bits");
  using B = Block<T, M, N>;
  if (a.cols != b.rows)
    a.core->fail(op, "the valid regions are %dx%d and %dx%d: %d columns don't match %d rows", a.rows, a.cols, b.rows,
                 b.cols, a.cols, b.rows);
  const int rows = a.rows, cols = b.cols;
  if (acc != nullptr && (acc->rows != rows || acc->cols != cols))
    a.core->fail(op, "the product is %dx%d, but the valid region it is added to is %dx%d", rows, cols, acc->rows,
                 acc->cols);
  for (int c = 0; c < cols; c += B::COLS) {
    const int c0 = c + B::COLS <= N ? c : N - B::COLS;
    const int c1 = c0 + B::COLS < cols ? c0 + B::COLS : cols;
    for (int r = 0; r < rows; r += B::ROWS) {
      const int r0 = r + B::ROWS <= M ? r : M - B::ROWS;
      const int r1 = r0 + B::ROWS < rows ? r0 + B::ROWS : rows;
      alignas(64) typename B::Sum sums[B::ROWS][B::COLS] = {};
      sum_products<B, K, N>(sums, a.data + static_cast<ptrdiff_t>(r0) * K, b.data + c0, a.cols);
      for (int i = r; i < r1; ++i)
        for (int j = c; j < c1; ++j) {
          auto sum = sums[i - r0][j - c0];
          if (acc != nullptr)
            sum += static_cast<typename B::Sum>(get(acc->data[i * N + j]));
          out.data[i * N + j] = static_cast<O>(sum);
        }
    }
  }
  out.rows = rows;
  out.cols = cols;
  publish(out.data);
}

} // namespace detail

// out[M, N] = a[M, K] b[K, N] over the valid regions: rows of a x columns of b; a has as many valid columns as b valid
// rows, else the kernel fails. Float tiles give float (or, rounded once, their own type), integers of up to 32 bits
// int32_t, wrapping. `out` is another tile than `a` and `b`.
template <class O, class T, int M, int K, int N>
inline void matmul(Tile<O, M, N> &out, const Tile<T, M, K> &a, const Tile<T, K, N> &b) {
  detail::multiply<O>("matmul", out, static_cast<const Tile<O, M, N> *>(nullptr), a, b);
}

// out = acc + a b. `out` may be `acc`.
template <class O, class T, int M, int K, int N>
inline void matmul_acc(Tile<O, M, N> &out, const Tile<O, M, N> &acc, const Tile<T, M, K> &a, const Tile<T, K, N> &b) {
  detail::multiply<O>("matmul_acc", out, &acc, a, b);
}

} // namespace simpler::tile
