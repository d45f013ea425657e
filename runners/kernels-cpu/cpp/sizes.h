// Sizes that several kernels share.
#pragma once

#include <cstdint>

namespace inferflux {

constexpr int64_t kBlock = 64;   // tokens in a block of keys and values
constexpr int64_t kFewRows = 8;  // done sooner than other threads are awake

}  // namespace inferflux
