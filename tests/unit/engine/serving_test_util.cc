#include "unit/engine/serving_test_util.h"

#include <gtest/gtest.h>

namespace hob {

SessionOptions serving_options(int n_ctx, int max_seqs) {
  SessionOptions options;
  options.path = std::string(HOB_TEST_DATA) + "/model/mixtral-Q4_K_M.gguf";
  options.n_threads = 2;
  options.n_ctx = n_ctx;
  options.n_seqs = max_seqs;
  options.chunk = 32;
  return options;
}

std::unique_ptr<ModelSession> load_session(const SessionOptions& options) {
  return ModelSession::load(plan_model(options), {});
}

std::unique_ptr<Tokenizer> tokenizer_of(const ModelSession& session) {
  return Tokenizer::from_gguf(session.file().metadata());
}

std::vector<int32_t> some_tokens(int n, int first) {
  std::vector<int32_t> tokens;
  for (int i = 0; i < n; i++) tokens.push_back((first + 37 * i) % 320);
  return tokens;
}

CompletionRequest greedy_request(const std::string& id, std::vector<int32_t> prompt, int max_tok) {
  CompletionRequest r;
  r.id = id;
  r.prompt = std::move(prompt);
  r.sampling.temperature = 0;
  r.max_tok = max_tok;
  r.ignore_eos = true;
  return r;
}

void Recorder::expect(bool ok, const char* rule) {
  if (!ok) broken_rule = rule;
}

void Recorder::on_prefill(int n_done, int n_total) {
  const std::lock_guard lock(mutex_);
  expect(!ended_ && n_done <= n_total, "on_prefill");
  prefill_done.push_back(n_done);
}

void Recorder::on_prompt_logprobs(std::vector<TokenLogprob> logprobs) {
  const std::lock_guard lock(mutex_);
  expect(!ended_ && prompt_logprobs.empty(), "on_prompt_logprobs");
  prompt_logprobs = std::move(logprobs);
}

void Recorder::on_delta(CompletionDelta delta) {
  std::unique_lock lock(mutex_);
  expect(!ended_, "a delta after the end");
  Choice& c = choices.at(static_cast<size_t>(delta.choice));
  expect(!c.finish, "a delta after the choice's last");
  c.tokens.insert(c.tokens.end(), delta.tokens.begin(), delta.tokens.end());
  if (delta.rewrites) c.text.clear();
  c.text += delta.text;
  c.n_rewrites += delta.rewrites ? 1 : 0;
  c.n_provisional_bytes += delta.provisional ? delta.text.size() : 0;
  for (TokenLogprob& l : delta.logprobs) c.logprobs.push_back(std::move(l));
  c.finish = delta.finish;
  const size_t n_tok = choices[0].tokens.size();
  lock.unlock();
  if (after_delta) after_delta(n_tok);
}

void Recorder::on_end(const CompletionUsage& end_usage, std::exception_ptr end_error) {
  if (at_end) at_end();
  const std::lock_guard lock(mutex_);
  expect(!ended_, "a second end");
  for (const Choice& c : choices) expect(c.finish.has_value(), "a choice without a finish reason");
  usage = end_usage;
  error = end_error;
  ended_ = true;
  changed_.notify_all();
}

void Recorder::wait_end() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return ended_; });
  EXPECT_EQ(broken_rule, "");
}

bool Recorder::ended() {
  const std::lock_guard lock(mutex_);
  return ended_;
}

Server::Server(const SessionOptions& options, const CompletionEngineOptions& engine_options)
    : session(load_session(options)),
      tokenizer(tokenizer_of(*session)),
      engine(std::make_unique<CompletionEngine>(*session, *tokenizer, engine_options)) {}

std::shared_ptr<Recorder> Server::submit(const CompletionRequest& request,
                                         std::function<void(size_t n_tok)> after_delta) {
  auto sink = std::make_shared<Recorder>(request.n);
  sink->after_delta = std::move(after_delta);
  const std::optional<Refused> refused = engine->submit(request, sink);
  EXPECT_FALSE(refused) << refused->message;
  if (!refused) return sink;
  for (int i = 0; i < request.n; i++) {
    CompletionDelta delta;
    delta.choice = i;
    delta.finish = FinishReason::kError;
    sink->on_delta(delta);
  }
  sink->on_end({}, nullptr);
  return sink;
}

std::shared_ptr<Recorder> Server::run(const CompletionRequest& request) {
  auto sink = submit(request);
  sink->wait_end();
  return sink;
}

}  // namespace hob
