#include "model/layers/token_routes.h"

#include <algorithm>

namespace hob {

TokenRoutes::TokenRoutes(int n_vocab, int n_experts, int top_k)
    : n_entries_(std::clamp(n_vocab, 1, kMostEntries)),
      k_(static_cast<size_t>(top_k)),
      fits_(n_experts <= INT16_MAX),
      owner_(static_cast<size_t>(n_entries_) * kLayers, kNobody),
      choices_(owner_.size() * k_) {}

uint64_t TokenRoutes::bytes(int n_vocab, int top_k) {
  const auto n = static_cast<uint64_t>(std::clamp(n_vocab, 1, kMostEntries)) * kLayers;
  return n * (sizeof(int32_t) + static_cast<uint64_t>(top_k) * sizeof(Choice));
}

void TokenRoutes::observe(int layer, int32_t token, std::span<const int32_t> ids,
                          std::span<const float> weights) {
  if (!fits_ || layer >= kLayers || ids.size() != k_) return;
  owner_[entry(token) * kLayers + static_cast<size_t>(layer)] = token;
  Choice* out = choices_.data() + first(layer, token);
  for (size_t i = 0; i < k_; i++) out[i] = {static_cast<int16_t>(ids[i]), weights[i]};
}

bool TokenRoutes::predict(int layer, int32_t token, int32_t* ids, float* weights) const {
  if (layer >= kLayers || token < 0 ||
      owner_[entry(token) * kLayers + static_cast<size_t>(layer)] != token)
    return false;
  const Choice* in = choices_.data() + first(layer, token);
  for (size_t i = 0; i < k_; i++) {
    ids[i] = in[i].expert;
    weights[i] = in[i].weight;
  }
  return true;
}

}  // namespace hob
