#include "unit/hf/checkpoint_util.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "format/strict_json.h"
#include "tensor/dequant.h"
#include "tensor/half.h"

namespace hob {
namespace {

int64_t count(const std::vector<int64_t>& shape) {
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  return n;
}

template <class T>
void append(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_number(std::string& bytes, const std::string& dtype, float x) {
  if (dtype == "BF16") return append(bytes, f32_to_bf16(x));
  if (dtype == "F16") return append(bytes, f32_to_f16(x));
  if (dtype == "F32") return append(bytes, x);
  FAIL() << dtype;
}

}  // namespace

std::string with_header(std::string_view header, size_t n_data_bytes) {
  std::string out;
  append(out, uint64_t{header.size()});
  out += header;
  return out + std::string(n_data_bytes, '\x11');
}

std::string safetensors_bytes(const std::vector<StoredTensor>& tensors) {
  OrderedJson header = {{"__metadata__", {{"format", "pt"}}}};
  std::string data;
  for (const StoredTensor& t : tensors) {
    header[t.name] = {{"dtype", t.dtype},
                      {"shape", t.shape},
                      {"data_offsets", {data.size(), data.size() + t.bytes.size()}}};
    data += t.bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return with_header(text, 0) + data;
}

std::string two_layer_config(const std::string& architecture, const std::string& more) {
  return fmt::format(R"({{"architectures":["{}"],"hidden_size":64,"num_hidden_layers":2,
      "vocab_size":10,"max_position_embeddings":128,"rms_norm_eps":1e-5,"rope_theta":10000,
      "num_attention_heads":4,"num_key_value_heads":2,"intermediate_size":96,
      {}}})",
                     architecture, more);
}

void TestCheckpoint::add(const std::string& name, const std::vector<int64_t>& shape,
                         const std::string& dtype) {
  // Whole numbers up to 255: exact in BF16, F16 and F32.
  uint32_t state = static_cast<uint32_t>(std::hash<std::string>{}(name));
  Array array{shape, {}};
  StoredTensor stored{name, dtype, shape, ""};
  for (int64_t i = 0; i < count(shape); i++) {
    state = state * 1664525 + 1013904223;
    const auto x = static_cast<float>(static_cast<int>(state >> 24) - 128);
    array.values.push_back(x);
    append_number(stored.bytes, dtype, x);
  }
  arrays_[name] = std::move(array);
  tensors_.push_back(std::move(stored));
}

void TestCheckpoint::remove(const std::string& name) {
  std::erase_if(tensors_, [&](const StoredTensor& t) { return t.name == name; });
}

void TestCheckpoint::write(int n_files) const {
  if (!config_.empty()) folder_.write("config.json", config_);
  if (n_files == 1) {
    folder_.write("model.safetensors", safetensors_bytes(tensors_));
    return;
  }
  Json map = Json::object();
  for (int file = 0; file < n_files; file++) {
    std::vector<StoredTensor> part;
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", file + 1, n_files);
    for (size_t i = static_cast<size_t>(file); i < tensors_.size();
         i += static_cast<size_t>(n_files)) {
      part.push_back(tensors_[i]);
      map[tensors_[i].name] = name;
    }
    folder_.write(name, safetensors_bytes(part));
  }
  folder_.write("model.safetensors.index.json", Json{{"weight_map", map}}.dump());
}

HfCheckpoint TestCheckpoint::open(HfOutType type) const {
  write();
  return HfCheckpoint::open(dir(), type);
}

void TestCheckpoint::add_trunk(int64_t n_vocab, int64_t d_model, bool head) {
  add("model.embed_tokens.weight", {n_vocab, d_model});
  add("model.norm.weight", {d_model});
  if (head) add("lm_head.weight", {n_vocab, d_model});
}

void TestCheckpoint::add_attention(int layer, int64_t d_model, int64_t d_q, int64_t d_kv,
                                   bool bias) {
  const std::string prefix = fmt::format("model.layers.{}.self_attn.", layer);
  add(prefix + "q_proj.weight", {d_q, d_model});
  add(prefix + "k_proj.weight", {d_kv, d_model});
  add(prefix + "v_proj.weight", {d_kv, d_model});
  add(prefix + "o_proj.weight", {d_model, d_q});
  if (!bias) return;
  add(prefix + "q_proj.bias", {d_q});
  add(prefix + "k_proj.bias", {d_kv});
  add(prefix + "v_proj.bias", {d_kv});
}

void TestCheckpoint::add_norms(int layer, int64_t d_model) {
  for (const char* name : {"input_layernorm", "post_attention_layernorm"})
    add(fmt::format("model.layers.{}.{}.weight", layer, name), {d_model});
}

void TestCheckpoint::add_ffn(const std::string& prefix, int64_t d_model, int64_t d_ff) {
  add(prefix + "gate_proj.weight", {d_ff, d_model});
  add(prefix + "up_proj.weight", {d_ff, d_model});
  add(prefix + "down_proj.weight", {d_model, d_ff});
}

const HfTensor* find_tensor(const HfCheckpoint& checkpoint, std::string_view name) {
  const auto it = std::ranges::find(checkpoint.tensors(), name, &HfTensor::name);
  return it == checkpoint.tensors().end() ? nullptr : &*it;
}

Array read_array(const HfCheckpoint& checkpoint, std::string_view name, int64_t piece) {
  const HfTensor* t = find_tensor(checkpoint, name);
  if (!t) {
    ADD_FAILURE() << "no tensor " << name;
    return {};
  }
  Array out{{t->shape.dim.begin(), t->shape.dim.begin() + t->shape.n_dims}, {}};
  const int64_t cols = t->shape.cols();
  std::vector<float> row(static_cast<size_t>(cols));
  for (int64_t first = 0; first < t->shape.rows(); first += piece) {
    const int64_t n = std::min(piece, t->shape.rows() - first);
    std::vector<std::byte> bytes(static_cast<size_t>(n) * t->row_bytes());
    checkpoint.read_rows(*t, first, n, bytes);
    for (int64_t r = 0; r < n; r++) {
      dequantise_row(t->dtype, bytes.data() + static_cast<uint64_t>(r) * t->row_bytes(), cols,
                     row.data());
      out.values.insert(out.values.end(), row.begin(), row.end());
    }
  }
  return out;
}

std::string error_of(const TestCheckpoint& checkpoint) {
  try {
    checkpoint.open();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

}  // namespace hob
