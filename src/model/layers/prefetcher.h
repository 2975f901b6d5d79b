#pragma once
// Layer-level prefetch: which experts the next layers will want, guessed while this layer's are read
// and computed. Ref: [HOBBIT] §3.3; research notes, hobbit §1.4.
//   gates   the routers of the next layers applied to the present gating input, all in one product:
//           neighbouring layers' inputs are nearly parallel
//   pairs   which experts followed the present ones before (PairTable)
//   tokens  what a token chose when it came last: for drafts, before anything is computed
//           (TokenRoutes)
//   all     a large step that needs most of a layer's experts will need most of the next one's
#include <vector>

#include "experts/expert_cache.h"
#include "model/dense_weights.h"
#include "model/layers/layer_context.h"
#include "model/layers/pair_table.h"
#include "model/layers/precision_rule.h"
#include "model/layers/token_routes.h"

namespace hob {

// What a layer chose: ids and weights [n, k] for rows [n].
struct LayerChoice {
  int layer = 0;
  std::span<const StepRow> rows;
  std::span<const int32_t> ids;
  std::span<const float> weights;
  int k = 0;
  int n_distinct = 0;
};

class Prefetcher {
 public:
  Prefetcher(const ModelSpec& spec, int top_k);
  static uint64_t bytes(const ModelSpec& spec, int top_k);
  void set_options(const PrefetchOptions& options) { options_ = options; }

  // Learns from every layer of small steps, whether prefetching is on or not.
  void observe(const LayerChoice& choice);
  // `routed_by_model`: false when a recorded routing is forced; the gates know nothing of it.
  void prefetch(const LayerContext& ctx, std::span<const LayerWeights> layers,
                const LayerChoice& choice, ExpertCache& cache, PrecisionRule& rule,
                bool routed_by_model);
  // The next step will probably have these tokens; the first of them count when they are many. Asks
  // for the experts of the first layers, one layer further only while all are there.
  void expect(std::span<const int32_t> tokens, ExpertCache& cache, PrecisionRule& rule);

 private:
  // Steps up to this are guessed row by row; larger ones take all or nothing.
  static constexpr int kSmallStep = 16;
  static constexpr int kMaxDepth = 4;

  void prefetch_all(int layer, ExpertCache& cache);
  int gate_depth(const LayerContext& ctx, std::span<const LayerWeights> layers, int layer);
  bool prefetch_guessed(int layer, int n, int k, ExpertCache& cache, PrecisionRule& rule);
  int guess_pairs(const LayerChoice& choice);

  const int n_experts_, n_layers_;
  PrefetchOptions options_;
  PairTable pairs_;
  TokenRoutes tokens_;
  std::vector<int32_t> before_;  // choices of the last layer of a small step [kSmallStep, k]
  int before_layer_ = -1, before_n_ = 0;
  std::vector<float> logits_;    // [kMaxDepth][kSmallStep, n_experts]
  std::vector<int32_t> ids_;     // [kSmallStep, k]
  std::vector<float> weights_;   // [kSmallStep, k]
  std::vector<Want> choice_wants_;
  std::vector<uint8_t> best_;    // [n_experts] 1 + strongest want; 0 = not guessed
  std::vector<ExpertWant> wants_;
};

}  // namespace hob
