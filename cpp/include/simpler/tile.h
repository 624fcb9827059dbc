// The tile library: what kernels, generated and hand-written, compute with.
//
//     extern "C" void kernel(simpler::Core &core, simpler::TaskArgsView args) {
//       using namespace simpler::tile;
//       Tile<float, 64, 64> a(core), b(core);
//       load(core, a, args.tensors[0], 0, 0, 64, 64, "kernel.cpp:4");
//       exp(b, a);
//       store(core, args.tensors[1], b, 0, 0, "kernel.cpp:6");
//     }
//
// The result comes first, then the operands. Every operation computes the valid region of its operands and makes it the
// valid region of the result. What is wrong at run time fails the kernel, through Core::fail.
//
// This is compiled again for every kernel of every user, so it has to compile in about a tenth of a second. Hence no
// header of the C++ standard library (<cmath> and <algorithm> alone take 0.2 s) and no SIMD library: loops that the
// compiler vectorises, and its vector extensions (GCC and Clang have the same) where they need a hand.
// Compile with -O3 -march=native -fno-math-errno -fno-trapping-math, as the kernel compiler does; -Ofast or -ffast-math
// would break NaN, infinities and the order of sums.
#pragma once

#include "simpler/tile/broadcast.h"
#include "simpler/tile/convert.h"
#include "simpler/tile/elementwise.h"
#include "simpler/tile/matmul.h"
#include "simpler/tile/memory.h"
#include "simpler/tile/reduce.h"
#include "simpler/tile/tile.h"
#include "simpler/tile/types.h"
