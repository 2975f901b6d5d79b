#pragma once
// Better codes and grids for a quantised matrix, by descent on the same error of the output that
// GPTQ passes on. GPTQ never looks back at a column; this does.
#include <span>

#include "base/thread_pool.h"
#include "quant/gptq_grid.h"

namespace hob {

// Up to `rounds` times: every code moves to the value that is best while all others stay (Ref:
// QuantEase, arXiv 2309.01885); then all scales and offsets of a row are fitted together by least
// squares, and rounded to f16. The error e H e^T of no row becomes larger. w [rows, cols], hessian
// [cols, cols] as of gptq_quantise; `damp` as GptqParams::damp. The result does not depend on the
// number of threads.
void refine_quantised(std::span<const float> w, std::span<const float> hessian, double damp,
                      int rounds, QuantisedMatrix& q, ThreadPool& pool);

}  // namespace hob
