#pragma once
// Dense f64 linear algebra for GPTQ. Row-major square matrices [n, n]. Work is cut by rows or
// columns, never along a sum, so the results do not depend on the number of threads.
#include <optional>
#include <span>
#include <vector>

#include "base/thread_pool.h"

namespace hob {

// The lower factor of a = L L^T, in place; what lies above the diagonal is set to 0. False when `a`
// (its lower half is read) is not positive definite; its contents are then of no use.
bool cholesky_lower(std::span<double> a, int n, ThreadPool& pool);

// The inverse of a lower triangular matrix without zeros on its diagonal.
std::vector<double> inverse_lower(std::span<const double> lower, int n, ThreadPool& pool);

// The upper U with U^T U = inverse(h); nothing when h is not positive definite.
std::optional<std::vector<double>> upper_factor_of_inverse(std::span<const double> h, int n,
                                                           ThreadPool& pool);

}  // namespace hob
