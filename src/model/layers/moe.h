#pragma once
#include <cstdint>
#include <exception>
#include <vector>

#include "experts/expert_cache.h"
#include "model/batch.h"
#include "model/decoder.h"
#include "model/dense_weights.h"
#include "model/layers/expert_grouping.h"
#include "model/layers/layer_context.h"

namespace hob {

// Routed experts, and the shared one: route, read what is missing, compute in order of arrival,
// reduce in rank order.
class MoeBlock {
 public:
  MoeBlock(const ModelSpec& spec, int max_rows, int top_k);
  static uint64_t bytes(const ModelSpec& spec, int max_rows, int top_k);

  // x += experts(norm(x)). Rows that needed an unreadable expert are appended to `failures` (batch
  // indices, at most one entry per row and layer); the others are unharmed.
  void forward(const LayerContext& ctx, const LayerWeights& w, int layer, ExpertCache& cache,
               RouteOverride* route);

  std::vector<Decoder::RowFailure>& failures() { return failures_; }
  void set_observer(RouteObserver* observer) { observer_ = observer; }

 private:
  int route_rows(const LayerContext& ctx, const LayerWeights& w, int layer, RouteOverride* route);
  void compute_arrived(const LayerContext& ctx, int k);
  void compute_shared(const LayerContext& ctx, const LayerWeights& w);
  void add_shared(const LayerContext& ctx, const LayerWeights& w);
  void fail_choice(const LayerContext& ctx, int out_row, int k, const std::exception_ptr& error);
  void fail_unrouted(const LayerContext& ctx, int layer, int k);

  int n_experts_;
  RouteObserver* observer_ = nullptr;
  std::vector<int32_t> ids_;    // [max_rows, top_k]
  std::vector<float> weights_;  // [max_rows, top_k]
  ExpertGrouping grouping_;
  std::vector<ExpertGroup> groups_;
  std::vector<ExpertLease> leases_;
  std::vector<Decoder::RowFailure> failures_;
};

}  // namespace hob
