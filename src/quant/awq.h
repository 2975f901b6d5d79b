#pragma once
// AWQ: inputs that are large get finer steps. Each input channel is divided by s, its column of the
// weights multiplied by s; the division is folded into whatever makes the input.
// Ref: Lin et al., arXiv 2306.00978.
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "quant/gptq_grid.h"

namespace hob {

// One of the matrices that share the input channels.
struct AwqMatrix {
  std::span<const float> w;  // [rows, cols]
  int rows = 0;
  const std::vector<float>* hessian = nullptr;  // [cols, cols] of its own inputs
};

struct AwqScales {
  std::vector<float> s;               // [cols]
  float exponent = 0;                 // s is mean |x| to this power, normalised
  double error = 0, plain_error = 0;  // of the outputs, with s and with s = 1
};

// The s = magnitude^r, r in {0, 0.05 .. 0.95}, with the least output error over all matrices once
// they are rounded. The error is tr(E H E^T) of the matrices themselves, over evenly spaced rows,
// where the authors run the whole block.
AwqScales awq_search(std::span<const AwqMatrix> matrices, std::span<const float> magnitude,
                     const GridParams& grid, ThreadPool& pool);

// Round to nearest, with each group's range cut where the error, weighted by the mean square of the
// inputs, is least.
QuantisedMatrix awq_quantise(std::span<const float> w, int rows, int cols,
                             std::span<const float> hessian, const GridParams& grid,
                             ThreadPool& pool);

// The Hessian of inputs divided by s.
std::vector<float> scaled_hessian(std::span<const float> hessian, std::span<const float> s);

}  // namespace hob
