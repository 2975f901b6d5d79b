#pragma once
// Ollama's dialect: its options, its streams of JSON lines.
#include <ctime>
#include <string>

#include "serve/completion_job.h"
#include "serve/request_fields.h"

namespace hob {

// "2023-08-04T19:22:45Z"
std::string rfc3339(std::time_t seconds);

// "model", or "name" of older clients.
void check_ollama_model(const JsonFields& body, const LoadedModel& model);

// From "options" and the fields beside it; Ollama's defaults.
CompletionRequest ollama_request(const JsonFields& body, const LoadedModel& model);

enum class OllamaKind { kChat, kGenerate };

class OllamaReply : public ReplyBuilder {
 public:
  OllamaReply(ModelPtr model, OllamaKind kind, bool stream);

  void on_prompt_logprobs(int, std::vector<TokenLogprob>) override {}
  void on_delta(int part, CompletionDelta delta) override;
  void on_end(const CompletionUsage& usage) override;
  void on_error(const ApiError& error) override;
  bool streams() const override { return stream_; }
  ErrorShape error_shape() const override { return ErrorShape::kOllama; }
  bool begun() const override { return begun_; }
  HttpReply reply() override;

 private:
  OrderedJson line(const std::string& text, bool done) const;
  OrderedJson last_line() const;

  ModelPtr model_;
  OllamaKind kind_;
  bool stream_, begun_ = false;
  int64_t start_ns_;
  std::string text_;
  FinishReason finish_ = FinishReason::kStop;
  CompletionUsage usage_;
};

// What a request without a prompt gets: the model is loaded.
HttpReply ollama_loaded(const LoadedModel& model, OllamaKind kind, bool unload);

}  // namespace hob
