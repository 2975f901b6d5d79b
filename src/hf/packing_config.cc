#include "hf/packing_config.h"

#include "base/error.h"

namespace hob {
namespace {

constexpr HfRange kBits{1, 64}, kGroup{-1, 1 << 20};

int64_t read_group(const HfFields& c, std::string_view key) {
  const int64_t group = c.get_int(key, kGroup);
  if (group != HfPacking::kWholeRow && (group <= 0 || group % 32 != 0))
    c.not_supported(key, "-1 or a multiple of 32");
  return group;
}

HfPacking read_gptq(const HfFields& c) {
  HfPacking p{.method = HfPackMethod::kGptq};
  p.bits = static_cast<int>(c.get_int("bits", kBits));
  if (p.bits != 2 && p.bits != 3 && p.bits != 4 && p.bits != 8)
    c.not_supported("bits", "2, 3, 4 or 8");
  p.group = read_group(c, "group_size");
  const std::string format = c.find_string("checkpoint_format").value_or("gptq");
  if (format != "gptq" && format != "gptq_v2")
    c.not_supported("checkpoint_format", "gptq or gptq_v2");
  p.zeros_less_one = format == "gptq";
  if (c.has("dynamic")) {
    const auto dynamic = c.find_object("dynamic");
    if (dynamic && !dynamic->empty())
      c.not_supported("dynamic", "the same settings for all layers");
  }
  return p;
}

HfPacking read_awq(const HfFields& c) {
  HfPacking p{.method = HfPackMethod::kAwq, .zeros_less_one = false};
  p.bits = static_cast<int>(c.get_int("bits", kBits));
  if (p.bits != 4) c.not_supported("bits", "4");
  p.group = read_group(c, "group_size");
  const std::string version = c.find_string("version").value_or("gemm");
  if (version != "gemm" && version != "GEMM") c.not_supported("version", "gemm");
  if (c.find_bool("zero_point") == false) c.not_supported("zero_point", "true");
  return p;
}

HfPacking read_compressed(const HfFields& c) {
  if (c.find_string("format") != "pack-quantized") c.not_supported("format", "pack-quantized");
  const auto groups = c.find_object("config_groups");
  if (!groups) c.refuse("config_groups", "an object");
  if (groups->keys().size() != 1) c.not_supported("config_groups", "one group");
  const HfFields group = *groups->find_object(groups->keys().front());
  const auto weights = group.find_object("weights");
  if (!weights) group.refuse("weights", "an object");
  if (group.find_object("input_activations"))
    group.not_supported("input_activations", "none: quantised weights only");
  HfPacking p{.method = HfPackMethod::kCompressedTensors, .zeros_less_one = false};
  p.bits = static_cast<int>(weights->get_int("num_bits", kBits));
  if (p.bits != 4 && p.bits != 8) weights->not_supported("num_bits", "4 or 8");
  if (weights->find_string("type").value_or("int") != "int") weights->not_supported("type", "int");
  p.has_zeros = !weights->find_bool("symmetric").value_or(true);
  const std::string strategy = weights->find_string("strategy").value_or("group");
  if (strategy == "channel")
    p.group = HfPacking::kWholeRow;
  else if (strategy == "group")
    p.group = read_group(*weights, "group_size");
  else
    weights->not_supported("strategy", "group or channel");
  return p;
}

}  // namespace

std::optional<HfPacking> read_packing(const HfFields& c) {
  const std::string method = c.find_string("quant_method").value_or("gptq");
  if (method == "mxfp4") return std::nullopt;
  if (method == "gptq") return read_gptq(c);
  if (method == "awq") return read_awq(c);
  if (method == "compressed-tensors") return read_compressed(c);
  c.not_supported("quant_method", "gptq, awq, compressed-tensors or mxfp4");
}

}  // namespace hob
