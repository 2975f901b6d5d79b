#pragma once
// y += a * x over contiguous values, in vectors that every compiler and machine knows.
#include <cstddef>
#include <cstring>

namespace hob {

template <class T>
inline void add_scaled_to(T a, const T* x, T* y, ptrdiff_t n) {
  constexpr ptrdiff_t kLanes = static_cast<ptrdiff_t>(32 / sizeof(T));
  typedef T Lanes __attribute__((vector_size(32)));
  ptrdiff_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    Lanes in, sum;
    std::memcpy(&in, x + i, sizeof in);
    std::memcpy(&sum, y + i, sizeof sum);
    sum += a * in;
    std::memcpy(y + i, &sum, sizeof sum);
  }
  for (; i < n; i++) y[i] += a * x[i];
}

}  // namespace hob
