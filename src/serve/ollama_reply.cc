// What /api/chat and /api/generate answer: JSON lines, or one object.
#include <fmt/format.h>

#include <cmath>

#include "base/clock.h"
#include "serve/handlers.h"
#include "serve/ollama.h"

namespace hob {
namespace {

constexpr const char* kNdjson = "application/x-ndjson";

int64_t ns(double seconds) { return static_cast<int64_t>(std::llround(seconds * 1e9)); }

OrderedJson text_json(const LoadedModel& model, OllamaKind kind, const std::string& text,
                      bool done) {
  OrderedJson out = {{"model", model.facts.name}, {"created_at", rfc3339(std::time(nullptr))}};
  if (kind == OllamaKind::kChat)
    out["message"] = {{"role", "assistant"}, {"content", text}};
  else
    out["response"] = text;
  out["done"] = done;
  return out;
}

}  // namespace

std::string rfc3339(std::time_t seconds) {
  std::tm t{};
  gmtime_r(&seconds, &t);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", t.tm_year + 1900, t.tm_mon + 1,
                     t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec);
}

HttpReply ollama_loaded(const LoadedModel& model, OllamaKind kind, bool unload) {
  OrderedJson out = text_json(model, kind, "", true);
  out["done_reason"] = unload ? "unload" : "load";
  return json_reply(out);
}

OllamaReply::OllamaReply(ModelPtr model, OllamaKind kind, bool stream)
    : model_(std::move(model)), kind_(kind), stream_(stream), start_ns_(now_ns()) {}

OrderedJson OllamaReply::line(const std::string& text, bool done) const {
  return text_json(*model_, kind_, text, done);
}

OrderedJson OllamaReply::last_line() const {
  OrderedJson out = line(stream_ ? "" : text_, true);
  out["done_reason"] = finish_name(finish_);
  out["total_duration"] = now_ns() - start_ns_;
  out["load_duration"] = 0;
  out["prompt_eval_count"] = usage_.n_prompt_tok;
  out["prompt_eval_duration"] = ns(usage_.prefill_s);
  out["eval_count"] = usage_.n_completion_tok;
  out["eval_duration"] = ns(usage_.decode_s);
  return out;
}

void OllamaReply::on_delta(int, CompletionDelta delta) {
  if (delta.finish) finish_ = *delta.finish;
  begun_ = true;
  if (!stream_)
    text_ += delta.text;
  else if (!delta.text.empty())
    output_ += dump_json(line(delta.text, false)) + "\n";
}

void OllamaReply::on_end(const CompletionUsage& usage) {
  usage_ = usage;
  if (stream_) output_ += dump_json(last_line()) + "\n";
}

void OllamaReply::on_error(const ApiError& error) {
  if (stream_) output_ += error_json(error, ErrorShape::kOllama) + "\n";
}

HttpReply OllamaReply::reply() {
  HttpReply reply;
  if (stream_)
    reply.content_type = kNdjson;
  else
    reply.body = dump_json(last_line());
  return reply;
}

}  // namespace hob
