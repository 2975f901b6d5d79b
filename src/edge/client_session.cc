#include "edge/client_session.h"

#include <algorithm>

#include "sampling/sampler.h"

namespace hob::edge {
namespace {

constexpr int kMostContradictions = 3;

}  // namespace

ClientSession::ClientSession(pb::Open open, const std::string& request_id,
                             const ClientSessionOptions& options)
    : options_(options),
      open_(std::move(open)),
      credit_nodes_(options.limits.max_nodes),
      credit_branches_(options.limits.max_branches),
      advised_nodes_(options.limits.max_nodes) {
  open_.set_request_id(request_id);
  log_ = CommittedLog({open_.prompt().begin(), open_.prompt().end()});
  n_taken_ = log_.size();
}

pb::ClientFrame& ClientSession::add_frame() {
  pb::ClientFrame& frame = frames_.emplace_back();
  frame.set_epoch(epoch_);
  return frame;
}

std::vector<pb::ClientFrame> ClientSession::take_frames() {
  for (const pb::ClientFrame& f : frames_) stats_.bytes_up += f.ByteSizeLong();
  return std::exchange(frames_, {});
}

std::vector<int32_t> ClientSession::take_tokens() {
  const std::span<const int32_t> fresh = log_.from(n_taken_);
  n_taken_ = log_.size();
  return {fresh.begin(), fresh.end()};
}

bool ClientSession::wants_link(int64_t now_us) const {
  return status_ == Status::kOffline && now_us >= retry_us_;
}

void ClientSession::on_connected(int64_t now_us) {
  if (status_ == Status::kEnded) return;
  epoch_++;
  status_ = Status::kOpening;
  drops_link_ = false;
  heard_us_ = now_us;
  asked_us_ = 0;
  if (offline_us_ == 0) offline_us_ = now_us;
  tree_.clear();
  guesses_.clear();
  frames_.clear();
  mode_ = open_.mode();  // Open says so, and Resume
  if (session_id_.empty() && log_.size() == open_.prompt_size())
    *add_frame().mutable_open() = open_;
  else
    add_resume();
}

void ClientSession::add_resume() {
  stats_.n_resumes++;
  pb::Resume& r = *add_frame().mutable_resume();
  r.set_session_id(session_id_);
  r.set_resume_token(resume_token_);
  r.set_have_len(static_cast<uint32_t>(log_.size()));
  r.set_have_hash(log_.hash());
  *r.mutable_reopen() = open_;
  for (const int32_t id : log_.from(open_.prompt_size())) r.add_tail(static_cast<uint32_t>(id));
}

// Full jitter, so that the edges of a server that went away do not come back all at once.
void ClientSession::retry_at(int64_t now_us, int64_t least_us) {
  const int64_t most =
      std::min(options_.most_backoff_us, options_.first_backoff_us << std::min(n_tries_, 20));
  const double share = philox_uniform(options_.seed, 0, static_cast<uint32_t>(n_tries_), epoch_);
  n_tries_++;
  retry_us_ = now_us + least_us + static_cast<int64_t>(share * static_cast<double>(most));
}

void ClientSession::on_disconnected(int64_t now_us) {
  drops_link_ = false;
  if (status_ == Status::kEnded || status_ == Status::kOffline) return;
  status_ = Status::kOffline;
  frames_.clear();
  tree_.clear();
  guesses_.clear();
  asked_us_ = 0;
  if (offline_us_ == 0) offline_us_ = now_us;
  if (retry_us_ <= now_us) retry_at(now_us, 0);
}

void ClientSession::end_with(FaultCode code, const std::string& detail) {
  status_ = Status::kEnded;
  end_ = End{.reason = "", .code = code, .detail = detail};
}

// How long the server may be silent before it is asked. Ref: research notes, specedge §4.8.
int64_t ClientSession::silence_us() const {
  const int64_t usual =
      3 * stats_.srtt_us + 4 * stats_.rttvar_us + 2 * stats_.verify_us + stats_.queue_us;
  return std::clamp(usual, options_.least_silence_us, options_.most_silence_us);
}

int64_t ClientSession::next_tick_us() const {
  constexpr int64_t kNever = INT64_MAX;
  switch (status_) {
    case Status::kEnded:
      return kNever;
    case Status::kOffline:
      return std::min(retry_us_, offline_us_ > 0 ? offline_us_ + options_.patience_us : INT64_MAX);
    case Status::kReady:
      return throttled_until_us_ > 0 ? throttled_until_us_ : kNever;
    default:
      return asked_us_ > 0 ? asked_us_ + options_.most_silence_us : heard_us_ + silence_us();
  }
}

void ClientSession::tick(int64_t now_us) {
  if (status_ == Status::kEnded) return;
  if (offline_us_ > 0 && now_us - offline_us_ >= options_.patience_us)
    return end_with(FaultCode::kUnavailable,
                    fmt::format("[edge] expected the server within {} s, it does not answer",
                                options_.patience_us / 1'000'000));
  if (status_ == Status::kOffline || status_ == Status::kReady) return;
  if (asked_us_ > 0) {
    drops_link_ = now_us - asked_us_ >= options_.most_silence_us;
  } else if (now_us - heard_us_ >= silence_us()) {
    asked_us_ = now_us;
    add_frame().mutable_heartbeat()->set_sent_us(static_cast<uint64_t>(now_us));
  }
}

void ClientSession::on_frame(const pb::ServerFrame& frame, int64_t now_us) {
  if (status_ == Status::kEnded || status_ == Status::kOffline) return;
  if (frame.epoch() != epoch_) return;
  stats_.bytes_down += frame.ByteSizeLong();
  heard_us_ = now_us;
  asked_us_ = 0;
  try {
    switch (frame.body_case()) {
      case pb::ServerFrame::kOpened:
        on_opened(frame.opened());
        break;
      case pb::ServerFrame::kResumed:
        on_resumed(frame.resumed());
        break;
      case pb::ServerFrame::kVerdict:
        on_verdict(frame.verdict(), now_us);
        break;
      case pb::ServerFrame::kThrottle:
        throttled_until_us_ = now_us + int64_t{frame.throttle().retry_after_ms()} * 1000;
        if (frame.throttle().max_nodes() > 0)
          advised_nodes_ = static_cast<int>(std::min<uint32_t>(
              frame.throttle().max_nodes(), static_cast<uint32_t>(options_.limits.max_nodes)));
        if (status_ == Status::kWaiting) {  // the round has not begun
          round_--;
          tree_.clear();
          guesses_.clear();
          status_ = Status::kReady;
        }
        break;
      case pb::ServerFrame::kMode:
        on_mode(frame.mode());
        break;
      case pb::ServerFrame::kFinished:
        commit({}, frame.finished().committed_len(), low_bits(frame.finished().hash()));
        status_ = Status::kEnded;
        end_ = End{.reason = frame.finished().reason(), .detail = {}};
        break;
      case pb::ServerFrame::kHeartbeat:
        if (frame.heartbeat().echo_us() > 0)
          add_rtt(now_us - static_cast<int64_t>(frame.heartbeat().echo_us()));
        break;
      case pb::ServerFrame::kFault:
        on_fault(frame.fault(), now_us);
        break;
      case pb::ServerFrame::kCredit:
        on_credit(frame.credit());
        break;
      case pb::ServerFrame::BODY_NOT_SET:
        break;
    }
    if (!frame.has_fault() && !frame.has_heartbeat()) {
      offline_us_ = 0;
      n_tries_ = 0;
    }
  } catch (const Error& e) {
    // What it says does not fit to what both agreed upon. A Resume compares the logs.
    if (++n_contradictions_ >= kMostContradictions) return end_with(FaultCode::kDataLoss, e.what());
    drops_link_ = true;
  }
}

void ClientSession::on_opened(const pb::Opened& opened) {
  if (status_ != Status::kOpening)
    fail(Code::kDataLoss, "[edge] expected Opened once, as the first frame");
  session_id_ = opened.session_id();
  resume_token_ = opened.resume_token();
  if (opened.has_credit()) on_credit(opened.credit());
  round_ = 0;
  status_ = Status::kWaiting;
}

void ClientSession::on_resumed(const pb::Resumed& resumed) {
  if (status_ != Status::kOpening)
    fail(Code::kDataLoss, "[edge] expected Resumed once, as the first frame");
  commit(ids_from(resumed.missing(), "resumed.missing", options_.limits), resumed.committed_len(),
         low_bits(resumed.hash()));
  session_id_ = resumed.session_id();
  resume_token_ = resumed.resume_token();
  round_ = resumed.last_round();
  // Without KV the server computes the log anew and chooses the next token meanwhile: round 0.
  const bool waits = resumed.verifying() || !resumed.kv_alive();
  if (resumed.has_credit()) on_credit(resumed.credit());
  if (waits)
    status_ = Status::kWaiting;
  else
    go_on();
}

void ClientSession::on_mode(const pb::ModeChanged& changed) {
  if (changed.mode() == pb::SERVER_STREAM) return;
  if (!changed.reason().empty()) {  // not what was asked for
    stream_refused_ = true;
    open_.set_mode(pb::TREE);
    mode_ = pb::TREE;
  }
  // Else the answer to an earlier wish than the last.
  if (status_ == Status::kStreaming && mode_ != pb::SERVER_STREAM) status_ = Status::kReady;
}

// Never more than this side can have in hand.
void ClientSession::on_credit(const pb::Credit& credit) {
  const auto within = [](uint32_t granted, int own) {
    return static_cast<int>(std::min<uint32_t>(granted, static_cast<uint32_t>(own)));
  };
  credit_nodes_ = within(credit.max_nodes(), options_.limits.max_nodes);
  credit_branches_ = within(credit.max_branches(), options_.limits.max_branches);
}

void ClientSession::on_fault(const pb::Fault& fault, int64_t now_us) {
  const auto code = static_cast<FaultCode>(fault.code());
  // The server does not know the session or this token any more: it can have all from here.
  const bool lost = (code == FaultCode::kNotFound || code == FaultCode::kPermissionDenied) &&
                    status_ == Status::kOpening && !session_id_.empty();
  if (lost) {
    session_id_.clear();
    resume_token_.clear();
  } else if (!fault.retryable()) {
    return end_with(code, fault.detail());
  }
  drops_link_ = true;
  retry_at(now_us, int64_t{fault.retry_after_ms()} * 1000);
}

void ClientSession::send_tree(DraftTree tree, int64_t draft_us, int64_t now_us) {
  HOB_CHECK(status_ == Status::kReady);
  round_++;
  throttled_until_us_ = 0;
  tree.resize(std::min(tree.size(), max_nodes()));
  pb::Draft& d = *add_frame().mutable_draft();
  d.set_round(round_);
  d.set_base_len(static_cast<uint32_t>(log_.size()));
  d.set_base_hash(low_bits(log_.hash()));
  to_message(tree, *d.mutable_tree());
  d.set_draft_us(static_cast<uint32_t>(std::clamp<int64_t>(draft_us, 0, UINT32_MAX)));
  d.set_rtt_us(static_cast<uint32_t>(std::min<int64_t>(stats_.srtt_us, UINT32_MAX)));
  stats_.n_rounds++;
  stats_.n_nodes += static_cast<uint64_t>(tree.size());
  tree_ = std::move(tree);
  sent_us_ = began_us_ = heard_us_ = now_us;  // silence counts from here
  status_ = Status::kWaiting;
}

void ClientSession::send_guesses(std::vector<OutcomeGuess> guesses) {
  HOB_CHECK(may_guess());
  ProtocolLimits granted = options_.limits;
  granted.max_nodes = credit_nodes_;
  int n_nodes = 0;
  const auto fits = [&](const OutcomeGuess& g) {
    return (n_nodes += g.tree.size()) <= max_guess_nodes(granted);
  };
  const auto first_left = std::find_if_not(guesses.begin(), guesses.end(), fits);
  guesses.erase(first_left, guesses.end());
  guesses.resize(std::min(guesses.size(), static_cast<size_t>(credit_branches_)));
  if (guesses.empty()) return;
  pb::Draft& d = *add_frame().mutable_draft();
  d.set_round(round_ + 1);
  for (const OutcomeGuess& g : guesses) {
    pb::Branch& b = *d.mutable_optimistic()->add_branch();
    b.set_assume_node(static_cast<uint32_t>(g.node + 1));
    b.set_assume_bonus(static_cast<uint32_t>(g.bonus));
    to_message(g.tree, *b.mutable_tree());
  }
  guesses_ = std::move(guesses);
}

void ClientSession::set_mode(pb::Mode mode) {
  if (mode == pb::SERVER_STREAM && stream_refused_) return;
  open_.set_mode(mode);
  if (status_ == Status::kReady || status_ == Status::kStreaming) go_on();
}

void ClientSession::cancel(const std::string& reason) {
  if (status_ == Status::kEnded) return;
  if (status_ != Status::kOffline) add_frame().mutable_cancel()->set_reason(reason);
  status_ = Status::kEnded;
  end_ = End{.reason = "cancelled", .code = FaultCode::kCancelled, .detail = reason};
}

}  // namespace hob::edge
