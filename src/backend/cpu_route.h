#pragma once
// One row of router logits -> which experts, and with what weight.
#include <cstdint>

#include "backend/backend.h"
#include "kernels/table.h"

namespace hob {

// p: [n] logits, used up. ids, weights: [rule.k].
void route_row(const KernelTable& kernels, float* p, int n, const RouteRule& rule, int32_t* ids,
               float* weights);

}  // namespace hob
