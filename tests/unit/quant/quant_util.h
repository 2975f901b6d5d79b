#pragma once
// Inputs for the tests of quantisation, and textbook versions of what src/quant does fast.
#include <cstdint>
#include <vector>

#include "quant/gptq.h"

namespace hob::test {

std::vector<float> normal_values(size_t n, uint64_t seed);
// 2/n sum x x^T over n_samples inputs that share a few directions, as those of a real layer do.
std::vector<float> correlated_hessian(int cols, int n_samples, uint64_t seed);

// U with U^T U = inverse(h), by the three steps of the paper: factor, invert, factor.
std::vector<double> slow_upper_factor(const std::vector<double>& h, int n);
// One column after the other, each error passed on at once, in f32 as the fast version.
QuantisedMatrix slow_gptq(const std::vector<float>& w, int rows, int cols,
                          const std::vector<float>& hessian, const GptqParams& params);

}  // namespace hob::test
