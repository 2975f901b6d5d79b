#pragma once
// A model that says what the test wants, without an engine: one token per byte.
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "serve/completion_service.h"
#include "serve/router.h"
#include "serve/served_model.h"

namespace hob::testing_serve {

// Ids: 0..255 the bytes, then <s>, </s>, <|im_start|>, <|im_end|>.
class ByteTokenizer : public Tokenizer {
 public:
  static constexpr TokenId kBos = 256, kEos = 257, kStart = 258, kEnd = 259, kVocab = 260;

  std::vector<TokenId> encode_parts(std::span<const TextPart> parts,
                                    bool add_special) const override;
  std::string piece(TokenId id, bool special) const override;
  std::string decode(std::span<const TokenId> ids, bool special) const override;
  int n_vocab() const override { return kVocab; }
  TokenId bos() const override { return kBos; }
  TokenId eos() const override { return kEos; }
  bool adds_bos() const override { return true; }
  bool is_end(TokenId id) const override { return id == kEos || id == kEnd; }
  bool is_control(TokenId id) const override { return id >= kBos; }
  TokenId find(std::string_view text) const override;
};

std::vector<TokenId> bytes_as_tokens(const std::string& text);

// Answers every request with `script`, cut at max_tok; one token per delta, as the engine's thread
// would. With `hold` nothing is answered until release().
class FakeService : public CompletionService {
 public:
  struct Script {
    std::string answer = "Hello there";
    int delay_ms = 0;                    // before every token
    std::exception_ptr error = nullptr;  // instead of an answer, after `n_before_error` tokens
    int n_before_error = 0;
    bool endless = false;  // repeats the answer until max_tok or cancelled
    FinishReason finish = FinishReason::kStop;
  };

  FakeService() = default;
  explicit FakeService(Script script) : script_(std::move(script)) {}
  ~FakeService() override;

  std::optional<Refused> submit(CompletionRequest request,
                                std::shared_ptr<CompletionSink> sink) override;
  void cancel(const std::string& id) override;
  void offer_draft(const std::string&, DraftOffer) override {}
  void set_self_decoding(const std::string&, bool) override {}
  void drain() override;
  bool idle() const override;
  ServeStats stats() const override;
  int max_model_len() const override { return max_len; }

  void refuse_next(Refused refused);
  std::vector<CompletionRequest> requests() const;  // all that were accepted
  int n_cancelled() const;                          // while they ran
  int n_running() const;
  bool wait_for_cancels(int n, int timeout_ms = 5000) const;
  bool wait_for_requests(int n, int timeout_ms = 5000) const;

  int max_len = 512;

 private:
  struct Run {
    std::thread thread;
    bool cancelled = false, done = false;
  };
  void play(const CompletionRequest& request, CompletionSink& sink);
  bool pause(const std::string& id);  // false = cancelled
  int play_choice(const CompletionRequest& request, int choice, CompletionSink& sink);

  Script script_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::map<std::string, Run> runs_;
  std::vector<CompletionRequest> requests_;
  std::vector<Refused> refusals_;
  int n_cancelled_ = 0;
  bool draining_ = false;
};

// State, configuration and a loaded fake model.
struct FakeServer {
  explicit FakeServer(FakeService::Script script = {});

  ServeContext context() { return {&config, &state}; }
  // Through the router, with Host and content type filled in.
  Answer ask(HttpRequest request);
  HttpReply reply(HttpRequest request);  // runs a job to its end

  ServeConfig config;
  ServerState state;
  ByteTokenizer tokenizer;
  FakeService service;
};

HttpRequest get(const std::string& target);
HttpRequest post(const std::string& target, const std::string& body);
// Runs a job against its service: all bytes of the stream, or the body.
HttpReply run_job(CompletionService& service, Metrics& metrics, CompletionJob job);

}  // namespace hob::testing_serve
