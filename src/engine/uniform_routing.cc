#include "engine/uniform_routing.h"

#include <algorithm>

#include "sampling/philox.h"

namespace hob {

void UniformRouting::route(int layer, std::span<const StepRow> rows, int32_t* ids, float* weights) {
  for (const StepRow& row : rows) {
    uint32_t draw = 0;
    for (int i = 0; i < top_k_;) {
      // The token takes part so that a position that is computed again with another token routes
      // elsewhere.
      const PhiloxCounter r =
          philox4x32({draw++, static_cast<uint32_t>(layer), static_cast<uint32_t>(row.position),
                      static_cast<uint32_t>(row.seq)},
                     {static_cast<uint32_t>(row.token), 0});
      const auto expert = static_cast<int32_t>(r[0] % static_cast<uint32_t>(n_experts_));
      if (std::find(ids, ids + i, expert) != ids + i) continue;  // k distinct ones
      ids[i] = expert;
      weights[i++] = 1.f / static_cast<float>(top_k_);
    }
    ids += top_k_;
    weights += top_k_;
  }
}

}  // namespace hob
