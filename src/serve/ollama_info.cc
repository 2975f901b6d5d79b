// Ollama's endpoints that describe: /, /api/version, tags, show, ps.
#include <fmt/format.h>

#include "serve/handlers.h"
#include "serve/ollama.h"

namespace hob {
namespace {

// "6.9B", "135M"
std::string parameter_size(uint64_t n) {
  const double x = static_cast<double>(n);
  return n >= 1'000'000'000 ? fmt::format("{:.1f}B", x / 1e9) : fmt::format("{:.0f}M", x / 1e6);
}

OrderedJson details(const ModelFacts& facts) {
  return {{"parent_model", ""},
          {"format", "gguf"},
          {"family", facts.arch},
          {"families", {facts.arch}},
          {"parameter_size", parameter_size(facts.n_params)},
          {"quantization_level", facts.quantisation}};
}

OrderedJson listed(const ModelFacts& facts, const std::string& name) {
  return {{"name", name},
          {"model", name},
          {"modified_at", rfc3339(facts.modified)},
          {"size", facts.file_bytes},
          {"digest", facts.digest},
          {"details", details(facts)}};
}

}  // namespace

Answer ollama_root(const ServeContext&, const HttpRequest&) {
  HttpReply reply;
  reply.content_type = "text/plain; charset=utf-8";
  reply.body = "hob is running";
  return reply;
}

Answer ollama_version(const ServeContext&, const HttpRequest&) {
  return json_reply({{"version", kHobVersion}});
}

Answer ollama_tags(const ServeContext& context, const HttpRequest&) {
  const ModelPtr model = context.require_model();
  OrderedJson list = OrderedJson::array({listed(model->facts, model->facts.name)});
  for (const std::string& alias : model->facts.aliases) list.push_back(listed(model->facts, alias));
  return json_reply({{"models", std::move(list)}});
}

Answer ollama_ps(const ServeContext& context, const HttpRequest&) {
  const ModelPtr model = context.require_model();
  OrderedJson entry = listed(model->facts, model->facts.name);
  entry.erase("modified_at");
  entry["size"] = model->facts.memory_bytes;
  entry["size_vram"] = 0;
  entry["expires_at"] = "0001-01-01T00:00:00Z";  // never: the model stays while the server runs
  entry["context_length"] = model->service->max_model_len();
  return json_reply({{"models", OrderedJson::array({std::move(entry)})}});
}

Answer ollama_show(const ServeContext& context, const HttpRequest& request) {
  const ModelPtr model = context.require_model();
  const Json json = parse_json_object(request.body);
  const JsonFields body(json);
  check_ollama_model(body, *model);
  const ModelFacts& f = model->facts;
  OrderedJson capabilities = {"completion"};
  return json_reply({{"modelfile", fmt::format("# served by hob\nFROM {}\n", f.name)},
                     {"parameters", ""},
                     {"template", f.chat_template},
                     {"details", details(f)},
                     {"model_info",
                      {{"general.architecture", f.arch},
                       {"general.parameter_count", f.n_params},
                       {f.arch + ".context_length", f.n_ctx_train},
                       {f.arch + ".embedding_length", f.d_model},
                       {f.arch + ".block_count", f.n_layers}}},
                     {"capabilities", std::move(capabilities)},
                     {"modified_at", rfc3339(f.modified)}});
}

}  // namespace hob
