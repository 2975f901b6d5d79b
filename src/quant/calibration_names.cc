#include "quant/calibration_names.h"

#include <charconv>

namespace hob {
namespace {

struct Row {
  std::string_view name;
  LinearInput input;
  std::optional<LinearInput> output;
};

constexpr Row kMatrices[] = {
    {"attn_q", LinearInput::kAttention, {}},
    {"attn_k", LinearInput::kAttention, {}},
    {"attn_v", LinearInput::kAttention, LinearInput::kHeads},
    {"attn_qkv", LinearInput::kAttention, {}},
    {"attn_output", LinearInput::kHeads, {}},
    {"ffn_gate", LinearInput::kFfn, {}},
    {"ffn_up", LinearInput::kFfn, LinearInput::kHidden},
    {"ffn_down", LinearInput::kHidden, {}},
};

bool drop_suffix(std::string_view& name, std::string_view suffix) {
  if (!name.ends_with(suffix)) return false;
  name.remove_suffix(suffix.size());
  return true;
}

}  // namespace

std::optional<LayerName> layer_name(std::string_view tensor_name) {
  if (!tensor_name.starts_with("blk.")) return std::nullopt;
  tensor_name.remove_prefix(4);
  LayerName name;
  const char* const end = tensor_name.data() + tensor_name.size();
  const auto [stop, error] = std::from_chars(tensor_name.data(), end, name.layer);
  if (error != std::errc() || stop == end || *stop != '.' || name.layer < 0) return std::nullopt;
  name.rest = {stop + 1, static_cast<size_t>(end - stop - 1)};
  return name;
}

std::optional<LayerMatrix> layer_matrix(std::string_view tensor_name) {
  const std::optional<LayerName> name = layer_name(tensor_name);
  if (!name) return std::nullopt;
  std::string_view rest = name->rest;
  if (!drop_suffix(rest, ".weight")) return std::nullopt;
  const bool routed = drop_suffix(rest, "_exps");
  if (!routed) drop_suffix(rest, "_shexp");
  for (const Row& row : kMatrices)
    if (row.name == rest)
      return LayerMatrix{
          .layer = name->layer, .input = row.input, .output = row.output, .routed = routed};
  return std::nullopt;
}

}  // namespace hob
