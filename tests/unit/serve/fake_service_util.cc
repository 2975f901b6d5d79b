#include "unit/serve/fake_service_util.h"

#include <algorithm>
#include <chrono>
#include <stdexcept>

#include "serve/completion_call.h"

namespace hob::testing_serve {
namespace {

constexpr std::pair<std::string_view, TokenId> kSpecial[] = {
    {"<s>", ByteTokenizer::kBos},
    {"</s>", ByteTokenizer::kEos},
    {"<|im_start|>", ByteTokenizer::kStart},
    {"<|im_end|>", ByteTokenizer::kEnd},
};

CallOptions call_options(int number) {
  CallOptions options;
  options.id = "t" + std::to_string(number);
  return options;
}

HttpReply run_accepted_job(CompletionService& service, Metrics& metrics, CompletionJob job) {
  std::mutex mutex;
  std::condition_variable changed;
  bool woken = false;
  static std::atomic<int> n_calls{0};
  CompletionCall call(service, metrics, std::move(job), call_options(n_calls++), [&] {
    std::lock_guard lock(mutex);
    woken = true;
    changed.notify_all();
  });
  while (!call.ended()) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return std::exchange(woken, false); });
    lock.unlock();
    call.pump();
  }
  if (call.error() && !(call.reply().streams() && call.reply().begun()))
    return error_reply(*call.error(), call.reply().error_shape());
  HttpReply reply = call.reply().reply();
  if (call.reply().streams()) reply.body = call.reply().take_output();
  return reply;
}

}  // namespace

std::vector<TokenId> ByteTokenizer::encode_parts(std::span<const TextPart> parts,
                                                 bool add_special) const {
  std::vector<TokenId> ids;
  if (add_special) ids.push_back(kBos);
  for (const TextPart& part : parts) {
    for (size_t i = 0; i < part.text.size();) {
      const std::string_view rest = part.text.substr(i);
      const auto special = std::find_if(
          std::begin(kSpecial), std::end(kSpecial),
          [&](const auto& s) { return part.parse_special && rest.starts_with(s.first); });
      if (special != std::end(kSpecial)) {
        ids.push_back(special->second);
        i += special->first.size();
      } else {
        ids.push_back(static_cast<unsigned char>(part.text[i++]));
      }
    }
  }
  return ids;
}

std::string ByteTokenizer::piece(TokenId id, bool special) const {
  if (id < 0 || id >= kVocab) throw std::out_of_range("token");
  if (id < kBos) return std::string(1, static_cast<char>(id));
  return special ? std::string(kSpecial[id - kBos].first) : "";
}

std::string ByteTokenizer::decode(std::span<const TokenId> ids, bool special) const {
  std::string out;
  for (TokenId id : ids) out += piece(id, special);
  return out;
}

TokenId ByteTokenizer::find(std::string_view text) const {
  for (const auto& [name, id] : kSpecial)
    if (name == text) return id;
  return text.size() == 1 ? static_cast<unsigned char>(text[0]) : -1;
}

std::vector<TokenId> bytes_as_tokens(const std::string& text) {
  std::vector<TokenId> ids;
  for (unsigned char c : text) ids.push_back(c);
  return ids;
}

FakeService::~FakeService() {
  std::map<std::string, Run> runs;
  {
    std::lock_guard lock(mutex_);
    for (auto& [id, run] : runs_) run.cancelled = true;
    changed_.notify_all();
  }
  for (auto& [id, run] : runs_) run.thread.join();
}

std::optional<Refused> FakeService::submit(CompletionRequest request,
                                           std::shared_ptr<CompletionSink> sink) {
  std::lock_guard lock(mutex_);
  if (draining_) return Refused{Refusal::kDraining, "the server is stopping", 0};
  if (!refusals_.empty()) {
    const Refused refused = refusals_.back();
    refusals_.pop_back();
    return refused;
  }
  requests_.push_back(request);
  runs_[request.id].thread =
      std::thread([this, request, sink = std::move(sink)] { play(request, *sink); });
  changed_.notify_all();
  return std::nullopt;
}

bool FakeService::pause(const std::string& id) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::milliseconds(script_.delay_ms),
                    [&] { return runs_[id].cancelled; });
  return !runs_[id].cancelled;
}

int FakeService::play_choice(const CompletionRequest& request, int choice, CompletionSink& sink) {
  int n_tok = 0;
  FinishReason finish = script_.finish;
  for (size_t i = 0; script_.endless || i < script_.answer.size(); i++, n_tok++) {
    if (script_.error && n_tok >= script_.n_before_error) std::rethrow_exception(script_.error);
    if (request.max_tok >= 0 && n_tok >= request.max_tok) {
      finish = FinishReason::kLength;
      break;
    }
    if (!pause(request.id)) {
      finish = FinishReason::kCancelled;
      break;
    }
    const char c = script_.answer[i % script_.answer.size()];
    CompletionDelta delta{.choice = choice,
                          .tokens = {static_cast<unsigned char>(c)},
                          .text = std::string(1, c),
                          .logprobs = {},
                          .finish = std::nullopt};
    if (request.n_logprobs >= 0) {
      TokenLogprob l{.token = delta.tokens[0], .logprob = -0.5f, .rank = 1, .top = {}};
      for (int k = 0; k < request.n_logprobs; k++)
        l.top.emplace_back(delta.tokens[0] + k, -0.5f - static_cast<float>(k));
      delta.logprobs.push_back(l);
    }
    sink.on_delta(std::move(delta));
  }
  if (script_.error) std::rethrow_exception(script_.error);
  sink.on_delta({.choice = choice, .tokens = {}, .text = "", .logprobs = {}, .finish = finish});
  return n_tok;
}

void FakeService::play(const CompletionRequest& request, CompletionSink& sink) {
  CompletionUsage usage;
  usage.n_prompt_tok = static_cast<int>(request.prompt.size());
  std::exception_ptr error;
  const int n = usage.n_prompt_tok;
  sink.on_prefill(n, n);
  if (request.n_prompt_logprobs >= 0) {
    std::vector<TokenLogprob> logprobs;
    for (size_t i = 0; i < request.prompt.size(); i++) {
      TokenLogprob l{.token = request.prompt[i], .logprob = -1.5f, .rank = 2, .top = {}};
      if (request.n_prompt_logprobs > 0) l.top = {{'z', -0.25f}};
      logprobs.push_back(l);
    }
    sink.on_prompt_logprobs(logprobs);
  }
  try {
    for (int i = 0; i < request.n; i++) usage.n_completion_tok += play_choice(request, i, sink);
  } catch (...) {
    sink.on_delta(
        {.choice = 0, .tokens = {}, .text = "", .logprobs = {}, .finish = FinishReason::kError});
    error = std::current_exception();
  }
  sink.on_end(usage, error);
  std::lock_guard lock(mutex_);
  runs_[request.id].done = true;
  changed_.notify_all();
}

void FakeService::cancel(const std::string& id) {
  std::lock_guard lock(mutex_);
  const auto it = runs_.find(id);
  if (it == runs_.end() || it->second.done || it->second.cancelled) return;
  it->second.cancelled = true;
  n_cancelled_++;
  changed_.notify_all();
}

void FakeService::drain() {
  std::lock_guard lock(mutex_);
  draining_ = true;
}

bool FakeService::idle() const { return n_running() == 0; }

int FakeService::n_running() const {
  std::lock_guard lock(mutex_);
  return static_cast<int>(
      std::count_if(runs_.begin(), runs_.end(), [](const auto& run) { return !run.second.done; }));
}

ServeStats FakeService::stats() const {
  ServeStats stats;
  stats.n_running = n_running();
  stats.n_kv_blocks = 100;
  stats.n_kv_blocks_used = 25;
  stats.n_generated_tok = 42;
  stats.experts.hits = 10;
  stats.experts.low_hits = 3;
  stats.experts.bytes_read = 4096;
  stats.expert_budget_bytes = 1 << 20;
  stats.n_memory_shrinks = 5;
  return stats;
}

void FakeService::refuse_next(Refused refused) {
  std::lock_guard lock(mutex_);
  refusals_.push_back(std::move(refused));
}

std::vector<CompletionRequest> FakeService::requests() const {
  std::lock_guard lock(mutex_);
  return requests_;
}

int FakeService::n_cancelled() const {
  std::lock_guard lock(mutex_);
  return n_cancelled_;
}

bool FakeService::wait_for_cancels(int n, int timeout_ms) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms),
                           [&] { return n_cancelled_ >= n; });
}

bool FakeService::wait_for_requests(int n, int timeout_ms) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms),
                           [&] { return static_cast<int>(requests_.size()) >= n; });
}

FakeServer::FakeServer(FakeService::Script script) : service(std::move(script)) {
  auto model = std::make_shared<LoadedModel>();
  model->facts.name = "fake";
  model->facts.aliases = {"gpt-fake"};
  model->facts.arch = "olmoe";
  model->facts.quantisation = "Q4_K";
  model->facts.n_params = 6'900'000'000;
  model->facts.max_queue = 8;
  model->tokenizer = &tokenizer;
  model->chat = standard_chat_template(ChatFormat::kChatMl);
  model->service = &service;
  state.set_model(std::move(model));
}

Answer FakeServer::ask(HttpRequest request) { return route(context(), request).answer; }

HttpReply FakeServer::reply(HttpRequest request) {
  Answer answer = ask(std::move(request));
  if (auto* reply = std::get_if<HttpReply>(&answer)) return std::move(*reply);
  return run_job(service, state.metrics(), std::move(std::get<CompletionJob>(answer)));
}

HttpRequest get(const std::string& target) {
  HttpRequest request;
  request.method = "GET";
  request.target = target;
  request.headers = {{"Host", "localhost:8080"}};
  return request;
}

HttpRequest post(const std::string& target, const std::string& body) {
  HttpRequest request = get(target);
  request.method = "POST";
  request.headers.emplace_back("Content-Type", "application/json");
  request.body = body;
  return request;
}

HttpReply run_job(CompletionService& service, Metrics& metrics, CompletionJob job) {
  const ErrorShape shape = job.reply->error_shape();
  try {
    return run_accepted_job(service, metrics, std::move(job));
  } catch (const ApiError& refused) {
    return error_reply(refused, shape);
  }
}

}  // namespace hob::testing_serve
