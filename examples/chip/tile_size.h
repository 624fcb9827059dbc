// What kernel and orchestration agree on.
#pragma once

inline constexpr int TILE = 64;
