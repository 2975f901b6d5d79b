#pragma once
#include <cstdint>
#include <exception>
#include <vector>

#include "experts/expert_cache.h"
#include "model/batch.h"
#include "model/decoder.h"
#include "model/dense_weights.h"
#include "model/expert_observer.h"
#include "model/layers/expert_grouping.h"
#include "model/layers/layer_context.h"
#include "model/layers/precision_rule.h"
#include "model/layers/prefetcher.h"

namespace hob {

// Routed experts, and the shared one: route, read what is missing, compute in order of arrival,
// reduce in rank order.
class MoeBlock {
 public:
  MoeBlock(const ModelSpec& spec, int max_rows, int top_k, const PrecisionOptions& precision);
  static uint64_t bytes(const ModelSpec& spec, int max_rows, int top_k);

  // x += experts(norm(x)). Rows that needed an unreadable expert are appended to `failures` (batch
  // indices, at most one entry per row and layer); the others are unharmed.
  void forward(const LayerContext& ctx, std::span<const LayerWeights> layers, int layer,
               ExpertCache& cache, RouteOverride* route);

  // For the steps that follow.
  void set_prefetch(bool on) { prefetch_on_ = on; }
  Prefetcher& prefetcher() { return prefetcher_; }
  // Ref: Prefetcher::expect.
  void expect(std::span<const int32_t> tokens, ExpertCache& cache) {
    prefetcher_.expect(tokens, cache, rule_);
  }
  const PrecisionRule& rule() const { return rule_; }
  PrecisionCounts& counts() { return counts_; }
  std::vector<Decoder::RowFailure>& failures() { return failures_; }
  void set_expert_observer(ExpertObserver* observer) { expert_observer_ = observer; }
  void set_route_observer(RouteObserver* observer) { route_observer_ = observer; }

 private:
  int route_rows(const LayerContext& ctx, const LayerWeights& w, int layer, RouteOverride* route);
  std::span<const ExpertWant> choose_precision(int n, int k);
  void compute_chosen(const LayerContext& ctx, const LayerWeights& w, ExpertDemand demand, int k);
  void compute_strict(const LayerContext& ctx, const LayerWeights& w, int layer, int k,
                      ExpertCache& cache);
  void compute_arrived(const LayerContext& ctx, const LayerWeights& w, int k);
  ExpertGroup group_of(const LayerContext& ctx, const LayerWeights& w,
                       const ExpertLease& lease) const;
  void count_uses(const ExpertLease& lease, int k);
  void compute_shared(const LayerContext& ctx, const LayerWeights& w, int layer);
  void add_shared(const LayerContext& ctx, const LayerWeights& w);
  void fail_choice(const LayerContext& ctx, int out_row, int k, const std::exception_ptr& error);
  void fail_unrouted(const LayerContext& ctx, int layer, int k);

  int n_experts_;
  RouteObserver* route_observer_ = nullptr;
  std::vector<int32_t> ids_;    // [max_rows, top_k]
  std::vector<float> weights_;  // [max_rows, top_k]
  ExpertGrouping grouping_;
  PrecisionRule rule_;
  Prefetcher prefetcher_;
  bool prefetch_on_ = false;
  std::vector<Want> choice_wants_;   // [max_rows, top_k]
  std::vector<int32_t> strict_ids_;  // [max_rows, top_k]: those of one want; empty unless strict
  std::vector<Want> expert_wants_;   // [n_experts]: the strongest of its rows
  std::vector<ExpertWant> wants_;
  PrecisionCounts counts_;
  std::vector<ExpertGroup> groups_;
  std::vector<ExpertLease> leases_;
  std::vector<Decoder::RowFailure> failures_;
  ExpertObserver* expert_observer_ = nullptr;
};

}  // namespace hob
