#include "edge/server_session.h"

#include <algorithm>
#include <cmath>

namespace hob::edge {
namespace {

const char* name_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kDeadline:
      return "deadline";
    case FinishReason::kCancelled:
    case FinishReason::kError:
      break;
  }
  return "cancelled";
}

}  // namespace

void ServerActions::fault(uint32_t epoch, FaultCode code, const std::string& detail, bool retryable,
                          double retry_after_s) {
  pb::ServerFrame& frame = frames.emplace_back();
  frame.set_epoch(epoch);
  pb::Fault& f = *frame.mutable_fault();
  f.set_code(static_cast<uint32_t>(code));
  f.set_detail(detail);
  f.set_retryable(retryable);
  f.set_retry_after_ms(static_cast<uint32_t>(std::lround(retry_after_s * 1e3)));
  close = true;
}

pb::ServerFrame& ServerSession::add_frame(ServerActions& actions) const {
  pb::ServerFrame& frame = actions.frames.emplace_back();
  frame.set_epoch(epoch_);
  return frame;
}

void ServerSession::fill(pb::Credit& credit) const {
  credit.set_rounds(2);  // one that is verified, one ahead of it
  credit.set_max_nodes(static_cast<uint32_t>(options_.limits.max_nodes));
  credit.set_max_branches(static_cast<uint32_t>(options_.limits.max_branches));
}

void ServerSession::end_with(FaultCode code, const std::string& detail, bool retryable,
                             double retry_after_s, ServerActions& actions) {
  actions.fault(epoch_, code, detail, retryable, retry_after_s);
  actions.offer.reset();
  actions.cancel = phase_ != Phase::kNew && phase_ != Phase::kEnded;
  phase_ = Phase::kEnded;
}

ServerActions ServerSession::start(const pb::Open& open, std::vector<int32_t> tail,
                                   ServerActions actions) {
  CompletionRequest request = request_from(open, tail, options_.limits);
  n_prompt_ = open.prompt_size();
  log_ = CommittedLog(request.prompt);
  if (open.max_new_tokens() > 0 && request.max_tok == 0) {
    phase_ = Phase::kEnded;
    finish_ = FinishReason::kLength;
    *add_frame(actions).mutable_finished() = finished();
    actions.close = true;
    return actions;
  }
  phase_ = Phase::kPrefill;
  actions.submit = std::move(request);
  if (open.sampling().rule() == pb::SAMPLE_MATCH)
    actions.submit->sampling.seed = options_.private_seed;
  streams_ = open.mode() == pb::SERVER_STREAM && options_.may_stream;
  if (streams_) actions.self_decoding = true;
  return actions;
}

ServerActions ServerSession::open(const pb::Open& open, uint32_t epoch,
                                  const std::string& resume_token) {
  epoch_ = epoch;
  ServerActions actions;
  try {
    actions = start(open, {}, {});
  } catch (const Error& e) {
    end_with(fault_code(e.code()), e.what(), false, 0, actions);
    return actions;
  }
  pb::Opened& opened = *add_frame(actions).mutable_opened();
  opened.set_session_id(options_.session_id);
  opened.set_resume_token(resume_token);
  opened.set_committed_len(static_cast<uint32_t>(log_.size()));
  fill(*opened.mutable_credit());
  if (open.mode() == pb::SERVER_STREAM && !options_.may_stream) refuse_streaming(actions);
  return actions;
}

void ServerSession::refuse_streaming(ServerActions& actions) const {
  pb::ModeChanged& m = *add_frame(actions).mutable_mode();
  m.set_mode(pb::TREE);
  m.set_reason("[edge] this server verifies drafts only");
}

// From now on, or behind the round that is verified.
void ServerSession::adopt_mode(pb::Mode mode) {
  streams_ = mode == pb::SERVER_STREAM && options_.may_stream;
  if (phase_ == Phase::kStreaming || phase_ == Phase::kReady) phase_ = idle_phase();
}

ServerActions ServerSession::reopen(const pb::Resume& resume, uint32_t epoch,
                                    const std::string& resume_token) {
  epoch_ = epoch;
  ServerActions actions;
  try {
    if (!resume.has_reopen())
      fail(Code::kNotFound, "[edge] resume: expected a session that this server knows, or reopen");
    // The answer to Resume comes before anything else that start() has to say.
    add_frame(actions).mutable_resumed();
    actions = start(resume.reopen(), ids_from(resume.tail(), "tail", options_.limits),
                    std::move(actions));
    if (static_cast<uint32_t>(log_.size()) != resume.have_len() ||
        log_.hash() != resume.have_hash())
      fail(Code::kDataLoss, "[edge] resume: expected have_len and have_hash of prompt and tail");
    pb::Resumed& resumed = *actions.frames[0].mutable_resumed();
    resumed.set_committed_len(static_cast<uint32_t>(log_.size()));
    resumed.set_hash(log_.hash());
    resumed.set_session_id(options_.session_id);
    resumed.set_resume_token(resume_token);
    fill(*resumed.mutable_credit());
    if (resume.reopen().mode() == pb::SERVER_STREAM && !options_.may_stream)
      refuse_streaming(actions);
  } catch (const Error& e) {
    actions = {};
    phase_ = Phase::kNew;
    end_with(fault_code(e.code()), e.what(), false, 0, actions);
  }
  return actions;
}

ServerActions ServerSession::resume(const pb::Resume& resume, uint32_t epoch,
                                    const std::string& resume_token) {
  epoch_ = epoch;
  ServerActions actions;
  const auto have = static_cast<int64_t>(resume.have_len());
  if (have < n_prompt_ || have > log_.size() ||
      log_.hash_at(static_cast<int>(have)) != resume.have_hash()) {
    end_with(FaultCode::kDataLoss,
             fmt::format("[edge] resume: expected a part of the {} committed ids, the edge has "
                         "{} with another hash",
                         log_.size(), have),
             false, 0, actions);
    return actions;
  }
  branches_.clear();
  pb::Resumed& resumed = *add_frame(actions).mutable_resumed();
  resumed.set_committed_len(static_cast<uint32_t>(log_.size()));
  resumed.set_hash(log_.hash());
  for (const int32_t id : log_.from(static_cast<int>(have)))
    resumed.add_missing(static_cast<uint32_t>(id));
  resumed.set_kv_alive(phase_ != Phase::kEnded);
  resumed.set_resume_token(resume_token);
  resumed.set_session_id(options_.session_id);
  resumed.set_last_round(round_);
  fill(*resumed.mutable_credit());
  if (resume.has_reopen()) {  // what the edge has wished while it was away
    adopt_mode(resume.reopen().mode());
    if (resume.reopen().mode() == pb::SERVER_STREAM && !streams_) refuse_streaming(actions);
  }
  if (phase_ != Phase::kEnded) actions.self_decoding = streams_;
  tree_is_foreign_ = phase_ == Phase::kVerifying || phase_ == Phase::kPrefill;
  actions.frames[0].mutable_resumed()->set_verifying(tree_is_foreign_);
  if (phase_ == Phase::kEnded) {
    *add_frame(actions).mutable_finished() = finished();
    actions.close = true;
  }
  return actions;
}

ServerActions ServerSession::detach() {
  ServerActions actions;
  branches_.clear();
  if (streams_ && phase_ != Phase::kEnded) actions.self_decoding = false;
  return actions;
}

ServerActions ServerSession::drain() {
  ServerActions actions;
  if (phase_ != Phase::kEnded)
    end_with(FaultCode::kUnavailable, "[edge] expected to go on, the server is shutting down", true,
             1, actions);
  return actions;
}

ServerActions ServerSession::on_frame(const pb::ClientFrame& frame, int64_t now_us) {
  ServerActions actions;
  if (frame.epoch() != epoch_) return actions;  // of a stream that a Resume has replaced
  try {
    switch (frame.body_case()) {
      case pb::ClientFrame::kDraft:
        on_draft(frame.draft(), now_us, actions);
        break;
      case pb::ClientFrame::kSetMode:
        set_mode(frame.set_mode().mode(), actions);
        break;
      case pb::ClientFrame::kCancel:
        if (phase_ == Phase::kEnded) break;
        actions.cancel = cancelled_ = true;
        break;
      case pb::ClientFrame::kHeartbeat:
        if (frame.heartbeat().echo_us() == 0)
          add_frame(actions).mutable_heartbeat()->set_echo_us(frame.heartbeat().sent_us());
        break;
      case pb::ClientFrame::kAck:
        if (frame.ack().committed_len() > static_cast<uint32_t>(log_.size()))
          fail(Code::kInvalidArgument, "[edge] ack: expected at most {} committed ids, got {}",
               log_.size(), frame.ack().committed_len());
        break;
      case pb::ClientFrame::kOpen:  // of this epoch: what began the stream, once more
      case pb::ClientFrame::kResume:
      case pb::ClientFrame::BODY_NOT_SET:  // a kind of frame that a later minor version brings
        break;
    }
  } catch (const Error& e) {
    actions = {};
    end_with(fault_code(e.code()), e.what(), false, 0, actions);
  }
  return actions;
}

void ServerSession::set_mode(pb::Mode mode, ServerActions& actions) {
  if (mode != pb::TREE && mode != pb::SERVER_STREAM)
    fail(Code::kInvalidArgument, "[edge] mode: expected TREE or SERVER_STREAM, got {}",
         static_cast<int>(mode));
  if (phase_ == Phase::kEnded) return;
  if (mode == pb::SERVER_STREAM && !options_.may_stream) return refuse_streaming(actions);
  adopt_mode(mode);
  actions.self_decoding = streams_;
  add_frame(actions).mutable_mode()->set_mode(mode);
}

pb::Finished ServerSession::finished() const {
  pb::Finished f;
  f.set_reason(name_of(finish_.value_or(FinishReason::kCancelled)));
  f.set_committed_len(static_cast<uint32_t>(log_.size()));
  f.set_hash(log_.hash());
  f.mutable_usage()->set_prompt(static_cast<uint32_t>(n_prompt_));
  f.mutable_usage()->set_output(static_cast<uint32_t>(log_.size() - n_prompt_));
  f.mutable_usage()->set_verified_nodes(static_cast<uint32_t>(n_verified_nodes_));
  f.mutable_usage()->set_rounds(round_);
  return f;
}

ServerActions ServerSession::on_end(const std::exception_ptr& error) {
  ServerActions actions;
  if (phase_ == Phase::kEnded) return actions;
  phase_ = Phase::kEnded;
  if (error) {
    try {
      std::rethrow_exception(error);
    } catch (const Error& e) {
      actions.fault(epoch_, fault_code(e.code()), e.what(), false);
    } catch (const std::exception& e) {
      actions.fault(epoch_, FaultCode::kInternal, e.what(), false);
    }
    return actions;
  }
  if (finish_ == FinishReason::kCancelled && !cancelled_) {
    actions.fault(epoch_, FaultCode::kUnavailable,
                  "[edge] expected to go on, the server is shutting down", true, 1);
    return actions;
  }
  *add_frame(actions).mutable_finished() = finished();
  actions.close = true;
  return actions;
}

ServerActions ServerSession::on_refused(const Refused& refused) {
  ServerActions actions;
  phase_ = Phase::kEnded;
  switch (refused.why) {
    case Refusal::kQueueFull:
      actions.fault(epoch_, FaultCode::kResourceExhausted, refused.message, true,
                    refused.retry_after_s);
      break;
    case Refusal::kDraining:
      actions.fault(epoch_, FaultCode::kUnavailable, refused.message, true, 1);
      break;
    case Refusal::kTooLong:
    case Refusal::kInvalid:
      actions.fault(epoch_, FaultCode::kInvalidArgument, refused.message, false);
      break;
  }
  return actions;
}

}  // namespace hob::edge
