#include "edge/edge_server.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "base/clock.h"
#include "edge/row_quota.h"
#include "edge/server_session.h"

namespace hob::edge {
namespace {

constexpr size_t kTokenBytes = 32;  // 256 bits: not to be guessed
constexpr size_t kIdBytes = 16;

std::string digest_of(std::string_view secret) {
  std::string out(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const uint8_t*>(secret.data()), secret.size(),
         reinterpret_cast<uint8_t*>(out.data()));
  return out;
}

std::string secure_bytes(size_t n) {
  std::string out(n, '\0');
  if (RAND_bytes(reinterpret_cast<uint8_t*>(out.data()), static_cast<int>(n)) != 1)
    fail(Code::kInternal, "[edge] expected random bytes, the system has none");
  return out;
}

void refuse(FrameSink& sink, uint32_t epoch, FaultCode code, const std::string& detail,
            bool retryable = false) {
  ServerActions refusal;
  refusal.fault(epoch, code, detail, retryable, retryable ? 1 : 0);
  sink.send(std::move(refusal.frames[0]));
  sink.close();
}

uint64_t number_from(const std::string& bytes) {
  uint64_t value = 0;
  for (const char c : bytes) value = value << 8 | static_cast<uint8_t>(c);
  return value;
}

}  // namespace

// Owned by the registry while it may be resumed, and by the engine while something runs.
class EdgeServer::Session : public CompletionSink, public std::enable_shared_from_this<Session> {
 public:
  Session(std::shared_ptr<Registry> registry, std::string id_, std::string principal_,
          std::string request_id_, const ServerSessionOptions& options);

  // From the registry's lists; never changes.
  const std::string id, principal, request_id;
  // All is said; it waits only for an edge that may have missed the end.
  std::atomic<bool> over{false};

  void begin(const pb::ClientFrame& first, std::shared_ptr<FrameSink> sink);
  void on_frame(const pb::ClientFrame& frame);
  void detach(const FrameSink* sink);
  void drain();
  // Has been without a stream since then; nullopt: it has one.
  std::optional<int64_t> detached_since() const;
  void cancel();

  void on_prefill(int, int) override {}
  void on_prompt_logprobs(std::vector<TokenLogprob>) override {}
  void on_delta(CompletionDelta delta) override;
  void on_end(const CompletionUsage& usage, std::exception_ptr error) override;

 private:
  void carry_out(ServerActions actions);
  std::string new_token();
  bool knows_token(const std::string& token) const;

  const std::shared_ptr<Registry> registry_;
  const std::string engine_id_;
  mutable std::mutex mutex_;
  // Under the mutex:
  ServerSession state_;
  std::shared_ptr<FrameSink> sink_;
  std::string token_digest_, old_token_digest_;
  int64_t detached_us_ = 0;
  bool running_ = false;  // in the engine
};

class EdgeServer::Registry : public std::enable_shared_from_this<Registry> {
 public:
  Registry(CompletionService& service_, EdgeServerOptions options_)
      : service(service_), options(std::move(options_)) {}

  CompletionService& service;
  const EdgeServerOptions options;

  // Throws Error when there are too many, or the session cannot be had.
  std::shared_ptr<Session> open(const pb::Open& open, const std::string& principal);
  std::shared_ptr<Session> find(const pb::Resume& resume, const std::string& principal);
  void forget(const std::string& id);
  std::vector<std::shared_ptr<Session>> all() const;
  void set_draining();

 private:
  RowQuota* quota_of(const std::string& principal);

  mutable std::mutex mutex_;
  bool draining_ = false;
  std::unordered_map<std::string, std::shared_ptr<Session>> sessions_;
  std::map<std::string, std::unique_ptr<TokenBucket>> quotas_;
};

EdgeServer::Session::Session(std::shared_ptr<Registry> registry, std::string id_,
                             std::string principal_, std::string request_id_,
                             const ServerSessionOptions& options)
    : id(std::move(id_)),
      principal(std::move(principal_)),
      request_id(std::move(request_id_)),
      registry_(std::move(registry)),
      engine_id_("edge-" + std::to_string(number_from(id.substr(0, 8))) + "-" +
                 std::to_string(number_from(id.substr(8)))),
      state_(options),
      detached_us_(registry_->options.now_us()) {}

// The old token stays good until a frame shows that the new one has arrived; then never again.
std::string EdgeServer::Session::new_token() {
  std::string token = registry_->options.random_bytes(kTokenBytes);
  old_token_digest_ = token_digest_;
  token_digest_ = digest_of(token);
  return token;
}

bool EdgeServer::Session::knows_token(const std::string& token) const {
  const std::string digest = digest_of(token);
  const auto same = [&](const std::string& d) {
    return d.size() == digest.size() && CRYPTO_memcmp(d.data(), digest.data(), d.size()) == 0;
  };
  return same(token_digest_) || same(old_token_digest_);
}

// The first frame of a stream: Open, or Resume of this session or of one that nobody knows.
void EdgeServer::Session::begin(const pb::ClientFrame& first, std::shared_ptr<FrameSink> sink) {
  const std::lock_guard lock(mutex_);
  ServerActions actions;
  if (first.has_open()) {
    sink_ = std::move(sink);
    actions = state_.open(first.open(), first.epoch(), new_token());
  } else if (state_.epoch() == 0) {
    sink_ = std::move(sink);
    actions = state_.reopen(first.resume(), first.epoch(), new_token());
  } else {
    if (!knows_token(first.resume().resume_token()))
      return refuse(*sink, first.epoch(), FaultCode::kPermissionDenied,
                    "[edge] resume: expected this session's resume token, got another");
    if (first.epoch() <= state_.epoch())
      return refuse(*sink, first.epoch(), FaultCode::kAborted,
                    fmt::format("[edge] resume: expected an epoch above {}, got {}", state_.epoch(),
                                first.epoch()));
    if (sink_)
      refuse(*sink_, state_.epoch(), FaultCode::kAborted,
             "[edge] expected the newest stream of this session, another has replaced it");
    sink_ = std::move(sink);
    actions = state_.resume(first.resume(), first.epoch(), new_token());
  }
  carry_out(std::move(actions));
}

void EdgeServer::Session::on_frame(const pb::ClientFrame& frame) {
  const std::lock_guard lock(mutex_);
  if (frame.epoch() == state_.epoch()) old_token_digest_.clear();
  carry_out(state_.on_frame(frame, registry_->options.now_us()));
}

// `sink`: of the stream that has gone; nothing if another has taken its place.
void EdgeServer::Session::detach(const FrameSink* sink) {
  const std::lock_guard lock(mutex_);
  if (sink_.get() != sink) return;
  sink_.reset();
  detached_us_ = registry_->options.now_us();
  carry_out(state_.detach());
}

void EdgeServer::Session::drain() {
  const std::lock_guard lock(mutex_);
  carry_out(state_.drain());
}

std::optional<int64_t> EdgeServer::Session::detached_since() const {
  const std::lock_guard lock(mutex_);
  if (sink_) return std::nullopt;
  return detached_us_;
}

void EdgeServer::Session::cancel() {
  const std::lock_guard lock(mutex_);
  if (running_) registry_->service.cancel(engine_id_);
}

void EdgeServer::Session::on_delta(CompletionDelta delta) {
  const std::lock_guard lock(mutex_);
  carry_out(state_.on_delta(delta, registry_->options.now_us()));
}

void EdgeServer::Session::on_end(const CompletionUsage&, std::exception_ptr error) {
  const std::lock_guard lock(mutex_);
  running_ = false;
  carry_out(state_.on_end(error));
}

// Under the mutex. The engine calls back from its own thread only, never from in here.
void EdgeServer::Session::carry_out(ServerActions actions) {
  CompletionService& service = registry_->service;
  if (actions.submit) {
    actions.submit->id = engine_id_;
    actions.submit->tenant = principal;
    running_ = true;
    if (const std::optional<Refused> refused =
            service.submit(std::move(*actions.submit), shared_from_this())) {
      running_ = false;
      actions = state_.on_refused(*refused);
    }
  }
  if (actions.self_decoding) service.set_self_decoding(engine_id_, *actions.self_decoding);
  if (actions.offer) service.offer_draft(engine_id_, std::move(*actions.offer));
  if (actions.cancel && running_) service.cancel(engine_id_);
  over = state_.ended();
  bool faulty = false;
  for (pb::ServerFrame& frame : actions.frames) {
    faulty = faulty || frame.has_fault();
    if (sink_) sink_->send(std::move(frame));
  }
  if (actions.close && sink_) {
    sink_->close();
    sink_.reset();
    detached_us_ = registry_->options.now_us();
  }
  if (faulty) registry_->forget(id);  // there is nothing to resume
}

RowQuota* EdgeServer::Registry::quota_of(const std::string& principal) {
  if (options.rows_per_s <= 0) return nullptr;
  std::unique_ptr<TokenBucket>& q = quotas_[principal];
  if (!q) q = std::make_unique<TokenBucket>(options.rows_per_s, options.limits.max_nodes + 1);
  return q.get();
}

std::shared_ptr<EdgeServer::Session> EdgeServer::Registry::open(const pb::Open& open,
                                                                const std::string& principal) {
  check_compatible(options.tokenizer, open.tokenizer());
  const std::string& model = open.model();
  if (!model.empty() && model != options.model &&
      std::find(options.aliases.begin(), options.aliases.end(), model) == options.aliases.end())
    fail(Code::kNotFound, "[edge] model: expected {}, got another", options.model);
  std::shared_ptr<Session> replaced, session;
  {
    const std::lock_guard lock(mutex_);
    if (draining_)
      fail(Code::kCancelled,
           "[edge] expected sessions before the end, the server is shutting down");
    int n_own = 0;
    for (const auto& [id, s] : sessions_) {
      if (s->principal != principal) continue;
      n_own += !s->over;
      if (s->request_id == open.request_id()) replaced = s;  // its Opened was lost on the way
    }
    if (replaced) sessions_.erase(replaced->id);
    if (sessions_.size() >= static_cast<size_t>(options.max_sessions))
      std::erase_if(sessions_, [](const auto& entry) { return entry.second->over.load(); });
    if (sessions_.size() >= static_cast<size_t>(options.max_sessions) ||
        n_own > options.max_tenant_sessions - (replaced ? 0 : 1))
      fail(Code::kResourceExhausted, "[edge] expected at most {} sessions ({} of one tenant)",
           options.max_sessions, options.max_tenant_sessions);
    const std::string id = options.random_bytes(kIdBytes);
    session = std::make_shared<Session>(
        shared_from_this(), id, principal, open.request_id(),
        ServerSessionOptions{.limits = options.limits,
                             .session_id = id,
                             .quota = quota_of(principal),
                             .private_seed = number_from(options.random_bytes(8)),
                             .may_stream = options.may_stream});
    sessions_[id] = session;
  }
  if (replaced) replaced->cancel();
  return session;
}

// The session that it means, or a new one for what it brings.
std::shared_ptr<EdgeServer::Session> EdgeServer::Registry::find(const pb::Resume& resume,
                                                                const std::string& principal) {
  {
    const std::lock_guard lock(mutex_);
    const auto it = sessions_.find(resume.session_id());
    if (it != sessions_.end()) {
      if (it->second->principal != principal)
        fail(Code::kNotFound, "[edge] resume: expected a session of the same tenant");
      return it->second;
    }
  }
  if (!resume.has_reopen())
    fail(Code::kNotFound, "[edge] resume: expected a session that this server knows, or reopen");
  return open(resume.reopen(), principal);
}

void EdgeServer::Registry::forget(const std::string& id) {
  std::shared_ptr<Session> session;  // ends outside the lock
  const std::lock_guard lock(mutex_);
  const auto it = sessions_.find(id);
  if (it == sessions_.end()) return;
  session = std::move(it->second);
  sessions_.erase(it);
}

std::vector<std::shared_ptr<EdgeServer::Session>> EdgeServer::Registry::all() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Session>> out;
  for (const auto& [id, s] : sessions_) out.push_back(s);
  return out;
}

void EdgeServer::Registry::set_draining() {
  const std::lock_guard lock(mutex_);
  draining_ = true;
}

class EdgeServer::Stream : public ServerStream {
 public:
  Stream(std::shared_ptr<Registry> registry, std::string principal, std::shared_ptr<FrameSink> sink)
      : registry_(std::move(registry)), principal_(std::move(principal)), sink_(std::move(sink)) {}

  void on_frame(const pb::ClientFrame& frame) override {
    if (session_) return session_->on_frame(frame);
    if (refused_) return;
    try {
      begin(frame);
    } catch (const Error& e) {
      refused_ = true;
      const bool ends = e.code() == Code::kCancelled;
      refuse(*sink_, frame.epoch(), ends ? FaultCode::kUnavailable : fault_code(e.code()), e.what(),
             ends || e.code() == Code::kResourceExhausted);
    }
  }

  void on_closed() override {
    if (session_) session_->detach(sink_.get());
  }

 private:
  void begin(const pb::ClientFrame& frame) {
    if (frame.epoch() == 0) fail(Code::kInvalidArgument, "[edge] epoch: expected 1 or more, got 0");
    if (frame.has_open())
      session_ = registry_->open(frame.open(), principal_);
    else if (frame.has_resume())
      session_ = registry_->find(frame.resume(), principal_);
    else
      fail(Code::kInvalidArgument, "[edge] expected Open or Resume as the first frame");
    session_->begin(frame, sink_);
  }

  const std::shared_ptr<Registry> registry_;
  const std::string principal_;
  const std::shared_ptr<FrameSink> sink_;
  std::shared_ptr<Session> session_;
  bool refused_ = false;
};

EdgeServer::EdgeServer(CompletionService& service, EdgeServerOptions options) {
  if (!options.now_us) options.now_us = [] { return now_ns() / 1000; };
  if (!options.random_bytes) options.random_bytes = secure_bytes;
  registry_ = std::make_shared<Registry>(service, std::move(options));
}

EdgeServer::~EdgeServer() {
  for (const auto& s : registry_->all()) {
    s->cancel();
    registry_->forget(s->id);
  }
}

pb::Capabilities EdgeServer::capabilities(const pb::CapabilitiesRequest& request) const {
  const EdgeServerOptions& o = registry_->options;
  if (request.min_minor() > kMinor)
    fail(Code::kUnimplemented, "[edge] expected an edge that speaks edgespec.v1.{}, it wants 1.{}",
         kMinor, request.min_minor());
  check_compatible(o.tokenizer, request.tokenizer());
  pb::Capabilities c;
  c.set_minor(std::min(kMinor, request.max_minor()));
  pb::ModelInfo& m = *c.add_models();
  m.set_name(o.model);
  m.set_weights_digest(o.weights_digest);
  *m.mutable_tokenizer() = o.tokenizer;
  for (const pb::AcceptRule rule : {pb::GREEDY_MATCH, pb::SAMPLE_MATCH, pb::GUMBEL_COUPLED})
    c.add_rules(rule);
  if (o.drafts && o.may_stream) c.set_feature_bits(kServerDrafts);
  c.set_max_nodes(static_cast<uint32_t>(o.limits.max_nodes));
  c.set_max_depth(static_cast<uint32_t>(o.limits.max_nodes));
  c.set_max_context(static_cast<uint32_t>(o.limits.max_context));
  c.set_max_inflight_rounds(2);
  c.set_max_branches(static_cast<uint32_t>(o.limits.max_branches));
  c.set_resume_ttl_ms(static_cast<uint32_t>(o.resume_ttl.count()));
  return c;
}

std::unique_ptr<ServerStream> EdgeServer::connect(const std::string& principal,
                                                  std::shared_ptr<FrameSink> sink) {
  return std::make_unique<Stream>(registry_, principal, std::move(sink));
}

void EdgeServer::expire() {
  const int64_t ttl_us = registry_->options.resume_ttl.count() * 1000;
  const int64_t now_us = registry_->options.now_us();
  for (const auto& s : registry_->all()) {
    const std::optional<int64_t> since = s->detached_since();
    if (!since || now_us - *since < ttl_us) continue;
    s->cancel();
    registry_->forget(s->id);
  }
}

void EdgeServer::drain() {
  registry_->set_draining();
  for (const auto& s : registry_->all()) s->drain();
}

int EdgeServer::n_sessions() const { return static_cast<int>(registry_->all().size()); }

}  // namespace hob::edge
