#pragma once
// GPTQ: weights are quantised column by column, and what each rounding does to the output is taken
// back by moving the columns that are still free. Ref: Frantar et al., arXiv 2210.17323.
#include <span>

#include "base/thread_pool.h"
#include "quant/gptq_grid.h"

namespace hob {

struct GptqParams {
  GridParams grid{};
  // Columns with the largest inputs first, while most others are still free. The groups' grids are
  // then those of the original weights, so that groups stay neighbours in the file.
  bool act_order = false;
  double damp = 0.01;  // of the mean of the Hessian's diagonal, added to the diagonal
  int refine = 4;      // rounds of refine_quantised() after all columns (quant/gptq_refine.h)
};

// What a matrix needed beyond the plain algorithm.
struct GptqReport {
  int n_dead = 0;   // inputs that were always 0; their weights become (nearly) 0
  double damp = 0;  // that made the Hessian positive definite
};

// Each weight to the nearest value of its group's grid: the baseline. `importance`: empty, or a
// weight per column for the choice of the grids.
QuantisedMatrix rtn_quantise(std::span<const float> w, int rows, int cols, const GridParams& grid,
                             ThreadPool& pool, std::span<const float> importance = {});

// w [rows, cols]; hessian [cols, cols], symmetric: 2/n sum of x x^T over the inputs x. Throws Error
// when a value is not finite.
QuantisedMatrix gptq_quantise(std::span<const float> w, int rows, int cols,
                              std::span<const float> hessian, const GptqParams& params,
                              ThreadPool& pool, GptqReport* report = nullptr);

// sum over rows of e H e^T, e = w - quantised: what the output loses, up to a factor.
double output_error(std::span<const float> w, std::span<const float> quantised, int rows, int cols,
                    std::span<const float> hessian, ThreadPool& pool);

}  // namespace hob
