#pragma once
// Which experts a token chose when it came last, in the first layers. What a router of an early layer
// sees is mostly the token itself, so this guesses for a token that no forward pass has seen: one
// that was drafted, or the next step's own before its first router runs.
// Ref: research notes, specedge §2.3 (drafted tokens double as prefetch hints).
#include <cstdint>
#include <span>
#include <vector>

namespace hob {

class TokenRoutes {
 public:
  // Deeper layers see more of the text and less of the token, and the next layers' gates know better.
  static constexpr int kLayers = 4;

  TokenRoutes(int n_vocab, int n_experts, int top_k);
  static uint64_t bytes(int n_vocab, int top_k);

  // A row of `token` chose `ids` [k] with `weights` [k]; layer < kLayers, k <= top_k.
  void observe(int layer, int32_t token, std::span<const int32_t> ids,
               std::span<const float> weights);
  // Into ids and weights [top_k]; false = nothing known.
  bool predict(int layer, int32_t token, int32_t* ids, float* weights) const;

 private:
  struct Choice {
    int16_t expert;
    float weight;
  };
  // Tokens share an entry when the vocabulary is larger; the newest has it. Half of a text are the
  // 100 most frequent tokens, nine tenths some thousands.
  static constexpr int kMostEntries = 8192;
  static constexpr int32_t kNobody = -1;

  size_t entry(int32_t token) const { return static_cast<size_t>(token % n_entries_); }
  size_t first(int layer, int32_t token) const {
    return (entry(token) * kLayers + static_cast<size_t>(layer)) * k_;
  }

  int n_entries_;
  size_t k_;
  bool fits_;  // expert ids fit a Choice
  std::vector<int32_t> owner_;   // [entry, layer] the token; kNobody
  std::vector<Choice> choices_;  // [entry, layer, k]
};

}  // namespace hob
