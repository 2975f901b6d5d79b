// hob show FILE [--tensors]: metadata, expert geometry, tensors. Works on every readable GGUF,
// runnable or not, and on packs.
#include <fmt/format.h>

#include <memory>
#include <optional>

#include "base/error.h"
#include "base/size_parse.h"
#include "command.h"
#include "format/pack_file.h"
#include "hf/open_model.h"
#include "options.h"
#include "output.h"
#include "pack_facts.h"

namespace hob::app {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  CommonOptions common;
  bool tensors = false;
};

// What bind() made of the file, or why it cannot run.
struct Binding {
  std::optional<ModelLayout> layout;
  std::string problem;
};

Binding try_bind(const ModelFile& file) {
  try {
    const std::unique_ptr<Backend> backend = make_cpu_backend({});
    return {bind_layout(file, *backend), ""};
  } catch (const Error& e) {
    return {std::nullopt, e.what()};
  }
}

// Arrays (vocabularies) are shown by their length and first elements.
struct ToJson {
  Json operator()(const std::string& s) const { return s; }
  template <class T>
  Json operator()(const std::vector<T>& v) const {
    constexpr size_t kShown = 4;
    if (v.size() <= kShown) return v;
    return {{"n", v.size()}, {"first", std::vector<T>(v.begin(), v.begin() + kShown)}};
  }
  template <class T>
  Json operator()(T value) const {
    return value;
  }
};

std::string one_line(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 32) c = ' ';
  constexpr size_t kMost = 100;
  if (text.size() > kMost)
    text = text.substr(0, kMost) + fmt::format("... ({} bytes)", text.size());
  return text;
}

std::string printable(const Json& value) {
  return one_line(value.is_string() ? value.get<std::string>()
                                    : value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

Json experts_json(const ModelLayout& layout) {
  const ExpertGeometry& g = layout.experts;
  for (size_t i = 0; i < g.layers.size(); i++) {
    if (g.layers[i].n_experts == 0) continue;
    uint64_t bytes = 0;
    for (const ExpertMatrix& m : g.layers[i].parts) bytes += m.bytes_per_expert;
    const ExpertMatrix& gate = g.layers[i].parts[kGate];
    return {{"n_experts", g.layers[i].n_experts},
            {"top_k", layout.spec.moe.top_k},
            {"d_expert", gate.rows},
            {"bytes_per_expert", bytes},
            {"dtype", dtype_info(gate.dtype).name},
            {"first_layer", i}};
  }
  return nullptr;
}

void print_json(const Options& o, const ModelFile& file, const Binding& binding) {
  Json metadata;
  for (const auto& [key, value] : file.metadata().entries())
    metadata[key] = std::visit(ToJson{}, value);
  Json object = {{"files", file.files()},
                 {"bytes", file.total_bytes()},
                 {"n_tensors", file.tensors().size()},
                 {"runnable", binding.layout.has_value()}};
  if (binding.layout) {
    object["family"] = binding.layout->spec.family;
    object["experts"] = experts_json(*binding.layout);
    object["dense_bytes"] = binding.layout->dense_bytes;
  } else {
    object["problem"] = binding.problem;
  }
  object["metadata"] = metadata;
  if (o.tensors)
    for (const RawTensor& t : file.tensors())
      object["tensors"].push_back(
          {{"name", t.name},
           {"dtype", dtype_info(t.dtype).name},
           {"shape",
            std::vector<int64_t>(t.shape.dim.begin(), t.shape.dim.begin() + t.shape.n_dims)},
           {"bytes", t.n_bytes},
           {"file", t.file},
           {"offset", t.offset}});
  write_json(object);
}

void print_text(const Options& o, const ModelFile& file, const Binding& binding) {
  write_out(fmt::format("{}: {}, {} tensors in {} file(s)\n", o.common.model,
                        format_size(file.total_bytes()), file.tensors().size(),
                        file.files().size()));
  if (!binding.layout) {
    write_out(fmt::format("not runnable: {}\n", binding.problem));
  } else {
    const ModelSpec& s = binding.layout->spec;
    write_out(
        fmt::format("family {}: {} layers, width {}, {} heads ({} KV), vocabulary {}, trained on "
                    "{} tokens of context\n",
                    s.family, s.n_layers, s.d_model, s.attn.n_heads, s.attn.n_kv_heads, s.n_vocab,
                    s.n_ctx_train));
    if (const Json e = experts_json(*binding.layout); !e.is_null())
      write_out(fmt::format(
          "experts: {} per layer, {} per token, width {}, {} each ({}); dense part {}\n",
          e["n_experts"].get<int>(), e["top_k"].get<int>(), e["d_expert"].get<int>(),
          format_size(e["bytes_per_expert"].get<uint64_t>()), e["dtype"].get<std::string>(),
          format_size(binding.layout->dense_bytes)));
  }
  write_out("metadata:\n");
  for (const auto& [key, value] : file.metadata().entries())
    write_out(fmt::format("  {:<44} {}\n", key, printable(std::visit(ToJson{}, value))));
  if (!o.tensors) return;
  write_out("tensors:\n");
  for (const RawTensor& t : file.tensors())
    write_out(fmt::format("  {:<44} {:<7} {:<20} {:>10}\n", t.name, dtype_info(t.dtype).name,
                          t.shape.str(), format_size(t.n_bytes)));
}

void run(const Options& o) {
  if (looks_like_pack(o.common.model)) return show_pack(o.common.model, o.common.json);
  const ModelFile file = open_model_file(o.common.model);
  const Binding binding = try_bind(file);
  o.common.json ? print_json(o, file, binding) : print_text(o, file, binding);
}

}  // namespace

Runner setup_show(CLI::App& app) {
  auto o = std::make_shared<Options>();
  add_model_argument(app, o->common);
  app.add_flag("--tensors", o->tensors, "list all tensors");
  add_output_options(app, o->common);
  return [o] { run(*o); };
}

}  // namespace hob::app
