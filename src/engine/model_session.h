#pragma once
// From a path to a running engine, in the order in which it happens: file -> backend -> layout ->
// plan | -> decoder -> expert cache -> KV store -> engine. `plan` and `show` stop at the bar; every
// other command goes through.
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/memory_info.h"
#include "engine/engine.h"
#include "engine/kl_table.h"
#include "engine/planner.h"
#include "experts/expert_cache.h"
#include "format/model_file.h"
#include "model/decoder.h"
#include "text/tokenizer.h"

namespace hob {

struct SessionOptions {
  std::string path;
  std::optional<uint64_t> memory_bytes;  // nullopt = auto
  std::optional<uint64_t> expert_cache_bytes;
  int n_ctx = 0;      // 0 = min(trained, 4096)
  int n_threads = 0;  // 0 = all cores, but for much slower ones
  bool pin = false;   // threads stay on their cores
  KvType kv = KvType::kF16;
  std::string policy = "ewma-layer";
  PrecisionOptions precision;
  // Precision and thresholds from the pack's KL table instead: the fastest setting with at most
  // this mean KL (nats). Of precision.mode only, unless that is exact.
  std::optional<double> max_kl;
  std::string pack;  // of the model: a path; empty = the one beside the model, if any; "none"
  Compat compat = Compat::kPublished;
  PrefetchMode prefetch_mode = PrefetchMode::kAuto;
  PrefetchOptions prefetch;
  int chunk = 0;           // rows per step; 0 = the planner chooses
  int n_seqs = 1;          // sequences that decode together
  int max_logit_rows = 0;  // 0 = n_seqs; else as given, at most the chunk
  int kv_tok = 0;  // tokens that the KV pool holds; 0 = n_seqs of n_ctx each, so that none waits
};

// What is known before anything is loaded.
struct ModelPlan {
  ModelFile file;
  std::unique_ptr<Backend> backend;
  ModelLayout layout;
  SessionOptions options;  // with n_ctx filled in
  ExpertCacheOptions cache;
  std::string pack_path;    // of the pack in use; empty = none
  std::optional<KlRow> kl;  // what max_kl chose; nullopt = nothing below it, exact mode
  MemoryInfo memory;
  Plan plan;
};
ModelPlan plan_model(const SessionOptions& options);
// Of a model that is open already; options.path is only for messages then.
ModelPlan plan_model(const SessionOptions& options, ModelFile file);

// Steps of a load, for progress bars: label, bytes done, bytes in total.
using LoadProgress = std::function<void(std::string_view what, uint64_t done, uint64_t total)>;

class ModelSession {
 public:
  static std::unique_ptr<ModelSession> load(ModelPlan plan, const LoadProgress& progress);

  const ModelFile& file() const { return plan_.file; }
  const ModelLayout& layout() const { return plan_.layout; }
  const Plan& plan() const { return plan_.plan; }
  const SessionOptions& options() const { return plan_.options; }
  Backend& backend() { return *plan_.backend; }
  Decoder& decoder() { return *decoder_; }
  Engine& engine() { return *engine_; }
  ExpertCache* experts() { return experts_.get(); }  // null for a dense model

 private:
  explicit ModelSession(ModelPlan plan) : plan_(std::move(plan)) {}

  ModelPlan plan_;
  std::unique_ptr<ExpertCache> experts_;  // outlives the decoder that borrows it
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<KvStore> kv_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace hob
