#pragma once
// A real (tiny) model behind the serving core, and sinks that remember what they were told.
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/async_file.h"
#include "base/error.h"
#include "engine/completion_engine.h"
#include "engine/model_session.h"

namespace hob {

// mixtral-Q4_K_M: two layers of four experts, 320 tokens of vocabulary.
SessionOptions serving_options(int n_ctx = 128, int max_seqs = 8);
std::unique_ptr<ModelSession> load_session(const SessionOptions& options);
std::unique_ptr<Tokenizer> tokenizer_of(const ModelSession& session);

std::vector<int32_t> some_tokens(int n, int first = 5);
CompletionRequest greedy_request(const std::string& id, std::vector<int32_t> prompt, int max_tok);

// All that a sink heard; checks the rules of the interface.
class Recorder : public CompletionSink {
 public:
  explicit Recorder(int n_choices = 1) : choices(static_cast<size_t>(n_choices)) {}
  struct Choice {
    std::vector<int32_t> tokens;
    std::string text;  // as somebody sees it who obeys rewrites
    int n_rewrites = 0;
    size_t n_provisional_bytes = 0;
    std::vector<TokenLogprob> logprobs;
    std::optional<FinishReason> finish;
  };

  void on_prefill(int n_done, int n_total) override;
  void on_prompt_logprobs(std::vector<TokenLogprob> logprobs) override;
  void on_delta(CompletionDelta delta) override;
  void on_end(const CompletionUsage& end_usage, std::exception_ptr end_error) override;

  // On the engine's thread after each delta, with the tokens of choice 0 so far.
  std::function<void(size_t n_tok)> after_delta;
  std::function<void()> at_end;  // there, too

  void wait_end();
  bool ended();

  // Valid after wait_end().
  std::vector<Choice> choices;
  std::vector<TokenLogprob> prompt_logprobs;
  std::vector<int> prefill_done;
  CompletionUsage usage;
  std::exception_ptr error;
  std::string broken_rule;  // of the interface; empty = none

 private:
  void expect(bool ok, const char* rule);
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ended_ = false;
};

// Fails every read while `broken` is set.
class BrokenReader : public AsyncReader {
 public:
  BrokenReader(std::unique_ptr<AsyncReader> inner, const std::atomic<bool>* broken)
      : inner_(std::move(inner)), broken_(broken) {}
  std::string_view name() const override { return inner_->name(); }
  bool direct(int file) const override { return inner_->direct(file); }
  void submit(std::span<const ReadOp> ops) override { inner_->submit(ops); }
  std::vector<ReadDone> wait() override {
    std::vector<ReadDone> done = inner_->wait();
    if (*broken_)
      for (ReadDone& d : done)
        d.error = std::make_exception_ptr(Error(Code::kIo, "[io] test: EIO"));
    return done;
  }
  void wake() override { inner_->wake(); }

 private:
  std::unique_ptr<AsyncReader> inner_;
  const std::atomic<bool>* broken_;
};

// Engine, session and tokenizer together.
struct Server {
  explicit Server(const SessionOptions& options = serving_options(),
                  const CompletionEngineOptions& engine_options = {.max_seqs = 8,
                                                                   .max_queue = 512});
  // Submits and waits.
  std::shared_ptr<Recorder> run(const CompletionRequest& request);
  // Expects acceptance.
  std::shared_ptr<Recorder> submit(const CompletionRequest& request,
                                   std::function<void(size_t n_tok)> after_delta = {});

  std::unique_ptr<ModelSession> session;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<CompletionEngine> engine;
};

}  // namespace hob
