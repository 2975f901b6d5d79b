#pragma once
// The one decoder of all families. `forward` reads like the paper: embed, then per layer norm,
// attention, residual, norm, FFN or experts, residual; final norm; head. Ref: docs/walkthrough.md.
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "experts/expert_cache.h"
#include "format/model_file.h"
#include "kv/kv_store.h"
#include "model/batch.h"
#include "model/expert_observer.h"
#include "model/linear_observer.h"
#include "model/moe_options.h"
#include "model/prefetch_governor.h"
#include "model/spec.h"
#include "model/spec_reader.h"
#include "model/work.h"

namespace hob {

using Progress = std::function<void(uint64_t done_bytes, uint64_t total_bytes)>;

// What bind() found, before anything is loaded: enough for `plan` and `show`.
struct ModelLayout {
  ModelSpec spec;
  uint64_t dense_bytes = 0;  // all non-expert weights in kernel layout
  uint64_t dense_read_bytes =
      0;                   // of these, read for every decoded token (all but unused embedding rows)
  ExpertGeometry experts;  // empty layers for a dense model
  std::vector<LayerWork> work;  // [n_layers]
  WeightGroup head;
  bool has_orders = false;  // some weight has one (Weight::order)
  KvGeometry kv(KvType type) const;
};

// Metadata -> spec, tensor table checked: a missing, unused or misshapen tensor is an Error that
// names it.
ModelLayout bind_layout(const ModelFile& file, const Backend& backend,
                        Compat compat = Compat::kPublished);

// Engine thread only. Owns the dense weights; borrows backend and experts.
class Decoder {
 public:
  // Reads the dense weights (O_DIRECT or pread + fadvise: never left in the page cache) into
  // anonymous memory.
  static std::unique_ptr<Decoder> load(const ModelFile& file, const ModelLayout& layout,
                                       Backend& backend, int max_rows, int n_ctx,
                                       const Progress& progress);
  ~Decoder();

  const ModelSpec& spec() const;
  // Set before the first forward of a MoE model. Not owned.
  void set_experts(ExpertCache* cache);
  void set_route_override(RouteOverride* route);  // null = the model's own router
  // Default: exact, no prefetch. Also resets what the thresholds and predictions have learned.
  void set_precision(const PrecisionOptions& options);
  void set_prefetch(PrefetchMode mode, const PrefetchOptions& options);
  void set_expert_observer(ExpertObserver* observer);  // null = none
  void set_linear_observer(LinearObserver* observer);  // null = none; not owned
  // Told of every routing, before the experts are computed. Not owned; null = nobody.
  void set_route_observer(RouteObserver* observer);

  // The next step will probably have these tokens, drafted ones for example: reads ahead for its
  // first layers when prefetching is on. A hint: costs time when it is wrong, changes no result.
  void expect(std::span<const int32_t> tokens);

  // Appends to `kv` (the slots named in the batch) and writes one logits row [n_vocab] per row with
  // want_logits, in row order. At most max_rows rows. Does not throw when an expert could not be
  // read: failed_rows() then says which rows are unusable and why; all other rows are complete and
  // valid.
  void forward(const StepBatch& batch, const KvStore& kv, Mat logits);
  struct RowFailure {
    int row;
    std::exception_ptr error;
  };
  const std::vector<RowFailure>& failed_rows() const;

  // Since the start or the last reset.
  const StageTimes& times() const;
  const WorkCounts& counts() const;
  PrecisionCounts precision_counts() const;    // zeros in exact mode
  std::pair<float, float> thresholds() const;  // T1, T2 as they stand
  // The score of ranks >= 1 below which a share q of those seen lies; 1 when none was (exact mode).
  float score_quantile(float q) const;
  const PrefetchGovernor& prefetch_governor() const;
  void reset_times();

  // Activation buffers of a step of max_rows rows (planner); excludes Backend::scratch_bytes.
  static uint64_t scratch_bytes(const ModelSpec& spec, int max_rows, int n_ctx);

 private:
  struct Impl;
  explicit Decoder(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hob
