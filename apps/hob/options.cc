#include "options.h"

#include <fmt/format.h>

#include <cstdio>

#include "base/error.h"
#include "base/size_parse.h"
#include "command.h"
#include "experts/policy_table.h"
#include "output.h"

namespace hob::app {
namespace {

uint64_t size_option(const char* name, const std::string& text) {
  try {
    return parse_size(text);
  } catch (const Error& e) {
    throw UsageError(fmt::format("[usage] {}: {}", name, e.what()));
  }
}

KvType kv_option(const std::string& text) {
  if (text == "f16") return KvType::kF16;
  if (text == "f32") return KvType::kF32;
  if (text == "q8") return KvType::kQ8;
  throw UsageError(fmt::format("[usage] --kv: expected f16, f32 or q8, got '{}'", text));
}

void check_policy_option(const std::string& spec) {
  try {
    check_policy(spec);
  } catch (const Error& e) {
    throw UsageError(fmt::format("[usage] --policy: {}", e.what()));
  }
}

// "A/B" within [0, most], A <= B.
std::pair<float, float> pair_option(const char* name, const std::string& text, float most) {
  float a = -1, b = -1;
  char rest = 0;
  if (std::sscanf(text.c_str(), "%f/%f%c", &a, &b, &rest) != 2 || !(a >= 0 && a <= b && b <= most))
    throw UsageError(fmt::format(
        "[usage] {}: expected two numbers A/B with 0 <= A <= B <= {}, got '{}'", name, most, text));
  return {a, b};
}

PrecisionOptions precision_options(const CommonOptions& o) {
  PrecisionOptions p;
  if (o.precision == "mixed")
    p.mode = PrecisionMode::kMixed;
  else if (o.precision == "mixed+skip")
    p.mode = PrecisionMode::kMixedSkip;
  else if (!o.precision.empty() && o.precision != "exact")
    throw UsageError(fmt::format(
        "[usage] --precision: expected exact, mixed or mixed+skip, got '{}'", o.precision));
  if (o.max_kl && o.precision == "exact")
    throw UsageError("[usage] --max-kl chooses a mixed mode, --precision exact excludes it");
  if (!o.quantiles.empty()) {
    const auto [q1, q2] = pair_option("--quantiles", o.quantiles, 100);
    p.q1 = q1 / 100;
    p.q2 = q2 / 100;
  }
  p.strict = o.strict;
  if (!o.thresholds.empty()) {
    const auto [t1, t2] = pair_option("--thresholds", o.thresholds, 1);
    p.t1 = t1;
    p.t2 = t2;
  }
  return p;
}

Compat compat_of(const std::string& name) {
  if (name == "published") return Compat::kPublished;
  if (name == "llama.cpp") return Compat::kLlamaCpp;
  throw UsageError(
      fmt::format("[usage] --compat: expected published or llama.cpp, got '{}'", name));
}

void set_prefetch(const CommonOptions& o, SessionOptions& s) {
  if (o.predictor == "pairs")
    s.prefetch.predictor = Predictor::kPairs;
  else if (o.predictor != "gates")
    throw UsageError(
        fmt::format("[usage] --predictor: expected gates or pairs, got '{}'", o.predictor));
  if (o.prefetch == "auto") return;
  s.prefetch_mode = PrefetchMode::kOff;
  if (o.prefetch == "off") return;
  if (o.prefetch.size() != 1 || o.prefetch[0] < '1' || o.prefetch[0] > '4')
    throw UsageError(
        fmt::format("[usage] --prefetch: expected auto, off or a depth of 1 to 4 layers, got '{}'",
                    o.prefetch));
  s.prefetch_mode = PrefetchMode::kOn;
  s.prefetch.depth = o.prefetch[0] - '0';
}

}  // namespace

void refuse_unsupported(const std::string& what) {
  throw UsageError(fmt::format(
      "[usage] expected a feature that this version has, {} is not supported yet", what));
}

void add_model_argument(CLI::App& app, CommonOptions& o) {
  app.add_option("MODEL", o.model,
                 "GGUF file (of a split model: any part), or a folder of safetensors")
      ->required();
}

void add_output_options(CLI::App& app, CommonOptions& o) {
  app.add_flag("--json", o.json, "one JSON object per line on stdout");
  app.add_flag("--quiet", o.quiet, "no notes and no progress on stderr");
}

void add_common_options(CLI::App& app, CommonOptions& o) {
  add_model_argument(app, o);
  app.add_option("--memory", o.memory, "limit of the whole process: 2G, 512M, ... or auto");
  app.add_option("--expert-cache", o.expert_cache,
                 "bytes of the expert slots; default: what --memory leaves");
  app.add_option("--ctx", o.ctx, "most tokens of a sequence; default min(trained, 4096)")
      ->check(CLI::Range(1, 1 << 24));
  app.add_option("--threads", o.threads, "compute threads; default all cores")
      ->check(CLI::Range(1, 1024));
  app.add_flag("--pin", o.pin, "keep every compute thread on a core of its own");
  app.add_option("--kv", o.kv, "KV cache type: f16, f32 or q8");
  app.add_option("--precision", o.precision,
                 "exact, mixed (less important experts from the pack's low copies) or mixed+skip");
  app.add_option("--quantiles", o.quantiles,
                 "mixed: percent of the importance scores served high / not skipped; 67/97");
  app.add_option("--thresholds", o.thresholds, "mixed: T1/T2 themselves instead of --quantiles");
  app.add_flag("--strict", o.strict,
               "mixed: every use in exactly the precision its score asks for, cached or not: for "
               "measuring quality");
  app.add_option("--max-kl", o.max_kl,
                 "fastest precision setting with at most this mean KL (nats), as estimated by 'hob "
                 "pack --calibration'")
      ->check(number_in(0.0, 1e6))
      ->excludes("--quantiles")
      ->excludes("--thresholds");
  app.add_option("--policy", o.policy,
                 "expert cache policy, e.g. ewma-layer, lru or hobbit:0.4,0.2,0.2,0.2");
  app.add_option(
      "--pack", o.pack,
      "experts from this pack ('hob pack'), or none; default: MODEL.hobpack if it is there");
  app.add_option("--prefetch", o.prefetch,
                 "reading experts ahead: auto (while it pays), off, or always N layers (1-4)");
  app.add_option("--compat", o.compat,
                 "where llama.cpp departs from a published model: published, or llama.cpp");
  app.add_option(
      "--predictor", o.predictor,
      "what prefetches are guessed from: gates of the next layers, or pairs seen before");
  add_output_options(app, o);
}

SessionOptions session_options(const CommonOptions& o) {
  check_policy_option(o.policy);
  SessionOptions s;
  s.path = o.model;
  if (o.memory != "auto") s.memory_bytes = size_option("--memory", o.memory);
  if (!o.expert_cache.empty()) s.expert_cache_bytes = size_option("--expert-cache", o.expert_cache);
  s.n_ctx = o.ctx;
  s.n_threads = o.threads;
  s.pin = o.pin;
  s.kv = kv_option(o.kv);
  s.policy = o.policy;
  s.pack = o.pack;
  s.precision = precision_options(o);
  s.max_kl = o.max_kl;
  s.compat = compat_of(o.compat);
  set_prefetch(o, s);
  return s;
}

void note_kl(const CommonOptions& common, const ModelPlan& plan) {
  if (!common.max_kl) return;
  note(common.quiet,
       plan.kl ? fmt::format("hob: note: --max-kl {:g}: {}, T1 {:.3f}, T2 {:.3f}; estimated KL "
                             "{:.4f} (as measured on the calibration text)",
                             *common.max_kl, precision_name(plan.kl->mode), plan.kl->thresholds.t1,
                             plan.kl->thresholds.t2, plan.kl->mean_kl)
               : fmt::format("hob: note: --max-kl {:g}: no measured setting is below, exact mode",
                             *common.max_kl));
}

// Below one token's experts recency is worthless: what was read is gone before it is wanted again.
void note_few_slots(const CommonOptions& common, const ModelPlan& plan) {
  const MoeSpec& moe = plan.layout.spec.moe;
  if (!plan.layout.spec.is_moe() || plan.plan.resident) return;
  const uint64_t of_a_token = ExpertCache::total_bytes(plan.layout.experts, *plan.backend) /
                              static_cast<uint64_t>(moe.n_experts) *
                              static_cast<uint64_t>(moe.top_k);
  if (plan.cache.budget_bytes >= of_a_token) return;
  note(common.quiet,
       fmt::format("hob: note: the expert slots ({}) hold less than the experts of one token ({}), "
                   "most are read for every token{}",
                   format_size(plan.cache.budget_bytes), format_size(of_a_token),
                   plan.options.policy == "ewma-layer"
                       ? ""
                       : "; --policy ewma-layer still finds some of them in memory"));
}

std::unique_ptr<ModelSession> load_session(const CommonOptions& common, ModelPlan plan) {
  note_kl(common, plan);
  note_few_slots(common, plan);
  const int trained = plan.layout.spec.n_ctx_train;
  if (trained > 0 && plan.options.n_ctx > trained)
    note(common.quiet,
         fmt::format("hob: note: --ctx {} exceeds the {} tokens that the model was trained on",
                     plan.options.n_ctx, trained));
  ProgressBar bar(common.quiet);
  auto session = ModelSession::load(
      std::move(plan),
      [&](std::string_view what, uint64_t done, uint64_t total) { bar.update(what, done, total); });
  bar.clear();
  const std::string warning = session->backend().warning();
  if (!warning.empty()) note(common.quiet, "hob: note: " + warning);
  return session;
}

}  // namespace hob::app
