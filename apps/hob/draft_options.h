#pragma once
// --draft: local speculation, for run and serve.
#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "engine/model_session.h"
#include "engine/speculator.h"
#include "options.h"

namespace hob::app {

// What --draft names: ngram, a model's path, or ngram+PATH for both.
struct DraftSource {
  explicit DraftSource(const std::string& text);
  bool ngram = false;
  std::string model;  // "" = none
};

// `session`: of the draft model; null = n-grams alone.
std::unique_ptr<Drafter> make_drafter(const DraftSource& source, ModelSession* session,
                                      double pass_floor_ms);

struct DraftOptions {
  std::string source;  // empty = no speculation
  int max_nodes = 16;
  bool always = false;       // no governor: for measurements
  double pass_floor_ms = 0;  // for measurements
  bool on() const { return !source.empty(); }
};

void add_draft_options(CLI::App& app, DraftOptions& options);

// Logits of a draft's nodes are wanted beside those of each sequence.
void reserve_rows(const DraftOptions& draft, SessionOptions& session);

// The drafting side, loaded before the target is planned.
class LocalDraft {
 public:
  // Loads the draft model, if the source is one, and takes its share out of `target`'s memory.
  // `target`: with n_ctx and n_seqs. Throws Error naming a file that is none.
  LocalDraft(const DraftOptions& draft, const CommonOptions& common, SessionOptions& target);
  // Null without --draft. Throws Error when the draft's vocabulary is not the target's. Lives no
  // longer than this.
  std::unique_ptr<Speculator> speculator(ModelSession& target) const;

 private:
  DraftOptions options_;
  std::unique_ptr<ModelSession> session_;  // null for ngram
};

}  // namespace hob::app
