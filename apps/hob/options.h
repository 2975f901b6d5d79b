#pragma once
// The options that all commands which load a model share (DESIGN §7).
#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>

#include "engine/model_session.h"
#include "text/tokenizer.h"

namespace hob::app {

struct CommonOptions {
  std::string model;
  std::string memory = "auto";
  std::string expert_cache;
  int ctx = 0;
  int threads = 0;
  bool pin = false;
  std::string kv = "f16";
  std::string precision;  // empty: exact, or what max_kl chooses
  std::string quantiles;  // empty: 67/97
  std::string thresholds;
  bool strict = false;
  std::optional<double> max_kl;
  std::string policy = "ewma-layer";
  std::string pack;
  std::string compat = "published";
  std::string prefetch = "auto";
  std::string predictor = "gates";
  bool json = false;
  bool quiet = false;
};

void add_model_argument(CLI::App& app, CommonOptions& options);
void add_output_options(CLI::App& app, CommonOptions& options);
void add_common_options(CLI::App& app, CommonOptions& options);

// Throws UsageError for values that make no sense and for those that hob does not support yet:
// never ignores one.
SessionOptions session_options(const CommonOptions& options);
[[noreturn]] void refuse_unsupported(const std::string& what);

// Says what --max-kl chose.
void note_kl(const CommonOptions& common, const ModelPlan& plan);

// Loads with a progress bar; warns when --ctx exceeds what the model was trained on.
std::unique_ptr<ModelSession> load_session(const CommonOptions& common, ModelPlan plan);

}  // namespace hob::app
