#include "hf/hf_rope.h"

#include <cmath>
#include <numbers>

#include "base/error.h"

namespace hob {
namespace {

constexpr double kMaxTheta = 1e15, kMaxFactor = 1e6;

// transformers 4: rope_scaling with rope_theta beside it; 5: rope_parameters with all of it, in
// models with two kinds of attention one object for each.
struct Rope {
  HfFields scaling;
  std::optional<double> theta, theta_local;
  std::string type;  // empty: none
};

std::optional<HfFields> find_rope(const HfFields& config) {
  const auto parameters = config.find_object("rope_parameters");
  return parameters ? parameters : config.find_object("rope_scaling");
}

Rope read_rope(const HfFields& config) {
  const std::optional<HfFields> found = find_rope(config);
  const HfFields outer = found.value_or(HfFields({}, ""));
  const HfFields full = outer.find_object("full_attention").value_or(outer);
  Rope rope{full, full.find_float("rope_theta", 1e-3, kMaxTheta), std::nullopt, ""};
  if (!rope.theta) rope.theta = config.find_float("rope_theta", 1e-3, kMaxTheta);
  if (const auto local = outer.find_object("sliding_attention"))
    rope.theta_local = local->find_float("rope_theta", 1e-3, kMaxTheta);
  if (!rope.theta_local)
    rope.theta_local = config.find_float("rope_local_base_freq", 1e-3, kMaxTheta);
  rope.type = full.find_string("rope_type").value_or(full.find_string("type").value_or(""));
  if (rope.type == "default") rope.type.clear();
  if (rope.type == "su") rope.type = "longrope";  // its first name
  return rope;
}

double factor_of(const Rope& rope) { return rope.scaling.get_float("factor", 1e-6, kMaxFactor); }

int64_t original_ctx(const HfFields& config, const Rope& rope) {
  const char* key = "original_max_position_embeddings";
  const auto beside = config.find_int(key, kHfCtx);
  return beside && !rope.scaling.has(key) ? *beside : rope.scaling.get_int(key, kHfCtx);
}

void yarn_keys(const HfFields& config, const Rope& rope, HfKeys& keys) {
  const double factor = factor_of(rope);
  keys.text("rope.scaling.type", "yarn");
  keys.real("rope.scaling.factor", factor);
  keys.count("rope.scaling.original_context_length", original_ctx(config, rope));
  if (const auto x = rope.scaling.find_float("beta_fast", 1e-6, kMaxFactor))
    keys.real("rope.scaling.yarn_beta_fast", *x);
  if (const auto x = rope.scaling.find_float("beta_slow", 1e-6, kMaxFactor))
    keys.real("rope.scaling.yarn_beta_slow", *x);
  if (!rope.scaling.find_bool("truncate").value_or(true))
    keys.flag("rope.scaling.yarn_truncate", false);
  // GGUF's runtimes compute the attention factor; another one would be lost on them.
  const auto attention = rope.scaling.find_float("attention_factor");
  if (attention && std::abs(*attention - (0.1 * std::log(factor) + 1)) > 1e-4)
    rope.scaling.not_supported("attention_factor", "none or 0.1 ln(factor) + 1");
  const auto mscale_all = rope.scaling.find_float("mscale_all_dim");
  if (!mscale_all) return;
  // Released models have the same number twice; where not, cos and sin are scaled too.
  if (const double mscale = rope.scaling.find_float("mscale").value_or(1); mscale != *mscale_all)
    keys.real("rope.scaling.yarn_mscale", mscale);
  // 0.1 is part of YaRN's formula, and of what the key means for historical reasons.
  keys.real("rope.scaling.yarn_log_multiplier", 0.1 * *mscale_all);
}

void longrope_keys(const HfFields& config, const Rope& rope, HfKeys& keys) {
  const int64_t original = original_ctx(config, rope);
  const auto max = static_cast<double>(config.get_int("max_position_embeddings", kHfCtx));
  keys.text("rope.scaling.type", "longrope");
  keys.count("rope.scaling.original_context_length", original);
  const double scale = max / static_cast<double>(original);
  double factor = 1;
  if (scale > 1 && original > 1)
    factor = std::sqrt(1 + std::log(scale) / std::log(static_cast<double>(original)));
  // PhiMoE states its own.
  const auto long_scale = rope.scaling.find_float("long_mscale", 1e-6, kMaxFactor);
  const auto short_scale = rope.scaling.find_float("short_mscale", 1e-6, kMaxFactor);
  keys.real("rope.scaling.attn_factor", short_scale.value_or(factor));
  if (long_scale != short_scale)
    keys.real("rope.scaling.attn_factor_long", long_scale.value_or(factor));
}

int64_t width_of(const HfFields& config, const Rope& rope) {
  const int64_t n_heads = config.get_int("num_attention_heads", kHfHeads);
  const int64_t d_model = config.get_int("hidden_size", kHfWidth);
  const int64_t d_head = config.find_int("head_dim", kHfWidth).value_or(d_model / n_heads);
  auto part = rope.scaling.find_float("partial_rotary_factor", 1e-6, 1);
  if (!part) part = config.find_float("partial_rotary_factor", 1e-6, 1);
  return static_cast<int64_t>(part.value_or(1) * static_cast<double>(d_head));
}

// Ref: transformers, modeling_rope_utils: long waves are slowed by `factor`, short ones kept.
HfComputed llama3_tensor(const HfFields& config, const Rope& rope) {
  const HfFields& s = rope.scaling;
  const double factor = s.find_float("factor", 1e-6, kMaxFactor).value_or(8);
  const double low = s.find_float("low_freq_factor", 1e-6, kMaxFactor).value_or(1);
  const double high = s.find_float("high_freq_factor", 1e-6, kMaxFactor).value_or(4);
  if (high <= low) s.refuse("high_freq_factor", "more than low_freq_factor");
  const auto ctx = static_cast<double>(
      s.find_int("original_max_position_embeddings", kHfCtx)
          .value_or(config.find_int("original_max_position_embeddings", kHfCtx).value_or(8192)));
  const double theta = rope.theta.value_or(10000);
  const int64_t d = width_of(config, rope);
  HfComputed out{"rope_freqs.weight", {}};
  for (int64_t i = 0; i < d; i += 2) {
    const double exponent = static_cast<double>(i) / static_cast<double>(d);
    const double wave = 2 * std::numbers::pi * std::pow(theta, exponent);
    double divisor = 1;
    if (wave > ctx / low) {
      divisor = factor;
    } else if (wave >= ctx / high) {
      const double smooth = (ctx / wave - low) / (high - low);
      divisor = 1 / ((1 - smooth) / factor + smooth);
    }
    out.values.push_back(static_cast<float>(divisor));
  }
  return out;
}

HfComputed factor_tensor(const HfFields& config, const Rope& rope, const char* key,
                         const char* name) {
  const auto factors = rope.scaling.find_floats(key);
  const int64_t n = width_of(config, rope) / 2;
  if (!factors || factors->size() != static_cast<size_t>(n))
    rope.scaling.refuse(key, fmt::format("a list of {} numbers", n));
  return {name, std::vector<float>(factors->begin(), factors->end())};
}

}  // namespace

int64_t rotary_width(const HfFields& config) { return width_of(config, read_rope(config)); }

void rope_keys(const HfFields& config, HfKeys& keys) {
  const Rope rope = read_rope(config);
  if (rope.type == "linear") {
    keys.text("rope.scaling.type", "linear");
    keys.real("rope.scaling.factor", factor_of(rope));
  } else if (rope.type == "yarn") {
    yarn_keys(config, rope, keys);
  } else if (rope.type == "longrope") {
    longrope_keys(config, rope, keys);
  } else if (!rope.type.empty() && rope.type != "llama3") {
    rope.scaling.not_supported(rope.scaling.has("rope_type") ? "rope_type" : "type",
                               "linear, yarn, llama3 or longrope");
  }
  if (rope.theta) keys.real("rope.freq_base", *rope.theta);
  if (rope.theta_local) keys.real("rope.freq_base_swa", *rope.theta_local);
}

std::vector<HfComputed> rope_tensors(const HfFields& config) {
  const Rope rope = read_rope(config);
  if (rope.type == "llama3") return {llama3_tensor(config, rope)};
  if (rope.type != "longrope") return {};
  return {factor_tensor(config, rope, "long_factor", "rope_factors_long.weight"),
          factor_tensor(config, rope, "short_factor", "rope_factors_short.weight")};
}

}  // namespace hob
