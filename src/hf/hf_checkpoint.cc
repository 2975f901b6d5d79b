#include "hf/hf_checkpoint.h"

#include <array>
#include <filesystem>

#include "base/error.h"
#include "hf/packing_config.h"
#include "text/hf_tokenizer.h"

namespace hob {
namespace {

// llama.cpp's numbers for what most of a file is.
uint64_t file_type_of(const std::vector<HfTensor>& tensors) {
  struct Row {
    DType type;
    uint64_t number, n_bytes;
  };
  std::array<Row, 5> rows = {{{DType::kF32, 0, 0},
                              {DType::kF16, 1, 0},
                              {DType::kQ8_0, 7, 0},
                              {DType::kBF16, 32, 0},
                              {DType::kMXFP4, 38, 0}}};
  for (const HfTensor& t : tensors)
    for (Row& row : rows)
      if (row.type == t.dtype) row.n_bytes += row_bytes(t.dtype, t.shape.n_elements());
  const auto most = std::max_element(
      rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.n_bytes < b.n_bytes; });
  return most->number;
}

// Old GPTQ checkpoints say it in a file of its own.
std::optional<HfPacking> find_packing(const std::string& dir, const HfConfig& config) {
  if (const auto quantisation = config.fields().find_object("quantization_config"))
    return read_packing(*quantisation);
  const auto path = std::filesystem::path(dir) / "quantize_config.json";
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return std::nullopt;
  const Json json = read_config_file(path, "quantize_config.json");
  return read_packing(HfFields({&json}, "quantize_config.json: "));
}

std::string name_of_folder(const std::string& dir) {
  std::error_code ignored;
  return std::filesystem::canonical(dir, ignored).filename().string();
}

}  // namespace

Metadata hf_metadata(const HfConfig& config, const HfFamily& family, const std::string& name) {
  const HfFields fields = config.fields();
  Metadata m;
  m.set("general.architecture", std::string(family.arch));
  m.set("general.type", std::string("model"));
  m.set("general.name", name);
  m.set("general.quantization_version", uint64_t{2});
  HfKeys keys(m, family.arch);
  common_keys(fields, keys);
  family.keys(fields, read_geometry(fields), keys);
  return m;
}

HfCheckpoint HfCheckpoint::open(const std::string& dir, HfOutType out_type, bool for_file) {
  HfConfig config = HfConfig::open(dir);
  const HfFamily& family = find_hf_family(config.architecture());
  config.set_defaults(family.defaults);
  HfCheckpoint c;
  c.metadata_ = hf_metadata(config, family, name_of_folder(dir));
  const std::optional<HfPacking> packing = find_packing(dir, config);
  if (packing && for_file && out_type == HfOutType::kAuto) {
    out_type = HfOutType::kF16;
    c.unpacked_ = true;
  }
  const HfGeometry geometry = read_geometry(config.fields());
  c.set_ = std::make_unique<SafetensorsSet>(SafetensorsSet::open(dir));
  for (const HfComputed& t : rope_tensors(config.fields()))
    c.tensors_.push_back(computed_tensor(t));
  for (HfTensor& t : plan_hf_tensors(geometry, family.rules(geometry), *c.set_, out_type, packing))
    c.tensors_.push_back(std::move(t));
  c.metadata_.set("general.file_type", file_type_of(c.tensors_));
  add_tokenizer(dir, c.metadata_, for_file);
  return c;
}

void add_tokenizer(const std::string& dir, Metadata& metadata, bool for_file) {
  std::error_code ignored;
  const std::filesystem::path folder(dir);
  if (std::filesystem::exists(folder / "tokenizer.json", ignored)) {
    const std::string key = metadata.get_string("general.architecture") + ".vocab_size";
    const uint64_t n_rows = metadata.get_uint(key);
    add_hf_tokenizer(dir, metadata, {.n_vocab = static_cast<size_t>(n_rows), .for_file = for_file});
    const auto* tokens = metadata.find_strings("tokenizer.ggml.tokens");
    if (tokens && tokens->size() > n_rows)
      fail(Code::kDataLoss,
           "[hf] {}/tokenizer.json: expected at most the {} tokens of the embedding, file has {}",
           dir, n_rows, tokens->size());
    return;
  }
  if (std::filesystem::exists(folder / "tokenizer.model", ignored))
    fail(Code::kUnimplemented,
         "[hf] {}: expected a tokenizer.json, the folder has tokenizer.model only: save the "
         "tokenizer again with transformers",
         dir);
  metadata.set("tokenizer.ggml.model", std::string("none"));
}

}  // namespace hob
