#pragma once
// Second moments of the inputs of a matrix: the Hessian of the squared error of its outputs.
#include <cstdint>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "base/thread_pool.h"

namespace hob {

class HessianSum {
 public:
  explicit HessianSum(int n_inputs);
  static uint64_t bytes(int n_inputs);

  // Rows of x are inputs. The bits do not depend on the number of threads.
  void add(Mat x, ThreadPool& pool);
  // As if all that `other` has seen had been added `weight` times.
  void add(const HessianSum& other, double weight);

  int n_inputs() const { return n_; }
  double n_rows() const { return n_rows_; }
  std::vector<float> hessian() const;         // [n, n]: 2 / n_rows sum x x^T; zeros without rows
  std::vector<float> mean_magnitude() const;  // [n]: mean |x|

 private:
  int n_;
  double n_rows_ = 0;
  std::vector<double> sum_;  // [n, n]: on and above the diagonal
  std::vector<double> magnitude_;
};

}  // namespace hob
