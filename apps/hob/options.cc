#include "options.h"

#include <fmt/format.h>

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

void check_supported(const CommonOptions& o) {
  if (o.precision == "mixed" || o.precision == "mixed+skip")
    refuse_unsupported("--precision " + o.precision);
  if (o.precision != "exact")
    throw UsageError(fmt::format(
        "[usage] --precision: expected exact, mixed or mixed+skip, got '{}'", o.precision));
  if (!o.max_kl.empty()) refuse_unsupported("--max-kl");
  if (!o.pack.empty()) refuse_unsupported("--pack");
  if (o.prefetch != "auto" && o.prefetch != "off") refuse_unsupported("--prefetch " + o.prefetch);
}

}  // namespace

void refuse_unsupported(const std::string& what) {
  throw UsageError(fmt::format(
      "[usage] expected a feature that this version has, {} is not supported yet", what));
}

void add_model_argument(CLI::App& app, CommonOptions& o) {
  app.add_option("MODEL", o.model, "GGUF file (of a split model: any part)")->required();
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
  app.add_option("--kv", o.kv, "KV cache type: f16 or f32");
  app.add_option("--precision", o.precision, "exact (mixed: not yet)");
  app.add_option("--max-kl", o.max_kl, "(not yet)");
  app.add_option("--policy", o.policy,
                 "expert cache policy, e.g. ewma-layer, lru or hobbit:0.4,0.2,0.2,0.2");
  app.add_option("--pack", o.pack, "(not yet)");
  app.add_option("--prefetch", o.prefetch, "auto or off");
  add_output_options(app, o);
}

SessionOptions session_options(const CommonOptions& o) {
  check_supported(o);
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
  return s;
}

std::unique_ptr<ModelSession> load_session(const CommonOptions& common, ModelPlan plan) {
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
