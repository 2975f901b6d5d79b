#include "draft_options.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/size_parse.h"
#include "command.h"
#include "output.h"
#include "speculative/combined_drafter.h"
#include "speculative/model_drafter.h"
#include "speculative/ngram_drafter.h"
#include "speculative/vocabulary_match.h"

namespace hob::app {
namespace {

constexpr const char* kNgram = "ngram";
// Sequences for which a draft model keeps a whole context each; more share that.
constexpr int kDraftContexts = 4;

// Resident, in what is left beside the smallest target: half of the memory at most.
SessionOptions draft_session(const std::string& path, const SessionOptions& target) {
  SessionOptions s;
  s.path = path;
  s.n_ctx = target.n_ctx;
  s.n_threads = target.n_threads;
  s.pin = target.pin;
  s.kv = target.kv;
  s.pack = "none";
  s.n_seqs = std::min(target.n_seqs, kDraftContexts);
  s.max_logit_rows = ModelDrafterOptions().beam * target.n_seqs;
  if (target.memory_bytes) s.memory_bytes = *target.memory_bytes / 2;
  return s;
}

// What a further row adds to a step, before it has been measured. A dense step is bound by reading
// the weights: little. Of a Mixture of Experts a row wants those experts that no other row has
// chosen, on average as if chosen evenly; from disk they cost more than all the rest.
double row_share(ModelSession& target) {
  constexpr double kDense = 0.08;
  const ModelLayout& layout = target.layout();
  const MoeSpec& moe = layout.spec.moe;
  if (moe.n_experts == 0) return kDense;
  if (!target.experts()->resident()) return 1;
  const double new_experts = 1 - static_cast<double>(moe.top_k) / moe.n_experts;
  const double expert_bytes =
      static_cast<double>(target.plan().experts_bytes) * moe.top_k / moe.n_experts;
  const double share = expert_bytes / (expert_bytes + static_cast<double>(layout.dense_read_bytes));
  return std::max(kDense, share * new_experts);
}

}  // namespace

DraftSource::DraftSource(const std::string& text) {
  const std::string both = std::string(kNgram) + "+";
  ngram = text == kNgram || text.starts_with(both);
  if (text != kNgram) model = ngram ? text.substr(both.size()) : text;
  if (text == both) throw UsageError("[usage] --draft ngram+MODEL: expected a model behind the +");
}

std::unique_ptr<Drafter> make_drafter(const DraftSource& source, ModelSession* session,
                                      double pass_floor_ms) {
  if (!session) return make_ngram_drafter();
  std::unique_ptr<Drafter> model =
      make_model_drafter(session->engine(), {.pass_floor_s = pass_floor_ms * 1e-3});
  return source.ngram ? make_combined_drafter(make_ngram_drafter(), std::move(model))
                      : std::move(model);
}

void add_draft_options(CLI::App& app, DraftOptions& options) {
  app.add_option("--draft", options.source,
                 "who guesses tokens that one step then verifies together; the answer stays the "
                 "same. ngram: what followed the last time; a small model of the same "
                 "vocabulary; or both: ngram+MODEL");
  app.add_option("--draft-max", options.max_nodes, "most tokens of a draft")
      ->check(CLI::Range(1, 64));
  app.add_flag("--draft-always", options.always, "verify whole drafts, also where that is slower")
      ->group("");  // for measurements
  app.add_option("--draft-floor", options.pass_floor_ms,
                 "ms that a pass of the draft model takes at least")
      ->group("")
      ->check(number_in(0, 1e4));
}

void reserve_rows(const DraftOptions& draft, SessionOptions& session) {
  if (draft.on())
    session.max_logit_rows = std::max(session.max_logit_rows, session.n_seqs + draft.max_nodes);
}

LocalDraft::LocalDraft(const DraftOptions& draft, const CommonOptions& common,
                       SessionOptions& target)
    : options_(draft) {
  const DraftSource source(draft.source);
  if (source.model.empty()) return;
  session_ = load_session(common, plan_model(draft_session(source.model, target)));
  if (!target.memory_bytes) return;
  const uint64_t taken = session_->plan().peak_bytes;
  if (taken >= *target.memory_bytes)
    fail(Code::kResourceExhausted, "[draft] expected --memory above the draft model's {}",
         format_size(taken));
  *target.memory_bytes -= taken;
}

std::unique_ptr<Speculator> LocalDraft::speculator(ModelSession& target) const {
  if (!options_.on()) return nullptr;
  if (session_)
    check_same_vocabulary(*Tokenizer::from_gguf(target.file().metadata()),
                          *Tokenizer::from_gguf(session_->file().metadata()));
  return std::make_unique<Speculator>(
      make_drafter(DraftSource(options_.source), session_.get(), options_.pass_floor_ms),
      SpeculationOptions{.max_nodes = options_.max_nodes,
                         .row_share = row_share(target),
                         .adaptive = !options_.always});
}

}  // namespace hob::app
