#include "quant/quant_plan.h"

#include <algorithm>

// g++ 12 with sanitizers sees uninitialised memory in its own <regex> (GCC bug 105562).
#pragma GCC diagnostic push
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <regex>

#include "base/error.h"
#include "quant/mixture.h"

namespace hob {
namespace {

struct Rule {
  std::string text;
  std::regex expression;
  DType type;
  bool used = false;
};

std::vector<Rule> compile(const std::vector<std::pair<std::string, DType>>& tensor_types) {
  std::vector<Rule> rules;
  for (const auto& [text, type] : tensor_types) {
    try {
      rules.push_back({text, std::regex(text), type, false});
    } catch (const std::regex_error&) {
      fail(Code::kInvalidArgument,
           "[quantize] tensor type: expected a regular expression, got '{}'", text);
    }
  }
  return rules;
}

// Small or fragile tensors keep their type: vectors, norms, routers, convolutions.
bool may_change(const RawTensor& tensor) {
  if (tensor.shape.rows() < 2 || !tensor.name.ends_with("weight")) return false;
  constexpr const char* kKept[] = {"_norm.weight",         "ffn_gate_inp.weight",
                                   "ssm_conv1d",           "shortconv.conv.weight",
                                   "position_embd.weight", "token_types.weight"};
  return std::none_of(std::begin(kKept), std::end(kKept), [&](const char* part) {
    return tensor.name.find(part) != std::string::npos;
  });
}

// What an option names for this tensor, if any.
std::optional<DType> named_type(const RawTensor& tensor, const QuantPlanOptions& o,
                                const Mixture& mixture, std::vector<Rule>& rules) {
  const TensorRole role = tensor_role(tensor.name);
  const Rule* first = nullptr;
  for (Rule& rule : rules) {
    if (!std::regex_search(tensor.name, rule.expression)) continue;
    rule.used = true;
    if (first == nullptr) first = &rule;
  }
  const bool embedding = role == TensorRole::kTokenEmbedding;
  if (embedding && o.token_embedding_type) return o.token_embedding_type;
  if (role == TensorRole::kOutput && o.output_type) return o.output_type;
  if (first != nullptr) return first->type;
  if (embedding && mixture.tied()) return o.output_type;
  return std::nullopt;
}

DType usual_type(const RawTensor& tensor, const QuantPlanOptions& o, const Mixture& mixture) {
  const bool mixed = !o.pure && dtype_info(o.type->base).quantised();
  return mixed ? mixture.choose(tensor) : o.type->base;
}

}  // namespace

DType type_for_width(DType type, int64_t cols) {
  const auto fits = [&](DType t) { return cols % dtype_info(t).block == 0; };
  if (fits(type)) return type;
  DType narrower = type;
  if (type == DType::kIQ4_XS) narrower = DType::kIQ4_NL;
  if (type == DType::kQ2_K || type == DType::kQ3_K) narrower = DType::kQ4_0;
  if (type == DType::kQ4_K) narrower = DType::kQ5_0;
  if (type == DType::kQ5_K) narrower = DType::kQ5_1;
  if (type == DType::kQ6_K) narrower = DType::kQ8_0;
  return fits(narrower) ? narrower : DType::kF16;
}

std::vector<QuantStep> plan_quantisation(const ModelFile& model, const QuantPlanOptions& options) {
  HOB_CHECK(options.type != nullptr);
  std::vector<Rule> rules = compile(options.tensor_types);
  const Mixture mixture(model, *options.type, options.has_importance);
  std::vector<QuantStep> steps;
  for (const RawTensor& tensor : model.tensors()) {
    QuantStep step = {&tensor, tensor.dtype, tensor.dtype, false};
    if (may_change(tensor)) {
      const std::optional<DType> named = named_type(tensor, options, mixture, rules);
      step.free = !named;
      step.wanted = named ? *named : usual_type(tensor, options, mixture);
      step.to = type_for_width(step.wanted, tensor.shape.cols());
    }
    steps.push_back(step);
  }
  for (const Rule& rule : rules) {
    if (!rule.used)
      fail(Code::kInvalidArgument,
           "[quantize] tensor type: expected an expression that finds a matrix, '{}' finds none",
           rule.text);
  }
  return steps;
}

}  // namespace hob

#pragma GCC diagnostic pop
