// Rounds of ServerSession: drafts in, verdicts out.
#include <algorithm>

#include "edge/server_session.h"

namespace hob::edge {
namespace {

uint32_t microseconds(double seconds) {
  return static_cast<uint32_t>(std::clamp(seconds * 1e6, 0.0, 4e9));
}

}  // namespace

void ServerSession::on_draft(const pb::Draft& draft, int64_t now_us, ServerActions& actions) {
  if (phase_ == Phase::kEnded || phase_ == Phase::kStreaming) return;  // crossed with our news
  if (draft.round() == 0) fail(Code::kInvalidArgument, "[edge] draft: expected a round above 0");
  if (draft.round() == round_ && phase_ == Phase::kReady && verdict_)
    *add_frame(actions).mutable_verdict() = *verdict_;
  if (draft.round() <= round_) return;
  // Guesses behind a round that did not begin: its base was stale, or one of our own tokens came
  // first. The edge has been told.
  if (draft.has_optimistic() && draft.round() == round_ + 2) return;
  if (draft.round() > round_ + 1)
    fail(Code::kInvalidArgument, "[edge] draft: expected at most round {}, got {}", round_ + 1,
         draft.round());
  switch (draft.kind_case()) {
    case pb::Draft::kTree:
      on_tree(draft, now_us, actions);
      break;
    case pb::Draft::kOptimistic:
      on_branches(draft);
      break;
    case pb::Draft::KIND_NOT_SET:
      fail(Code::kInvalidArgument, "[edge] draft: expected a tree or optimistic branches");
  }
}

// False: it was stale, and the edge has been told what is right.
bool ServerSession::check_base(const pb::Draft& draft, ServerActions& actions) {
  const auto base = static_cast<int64_t>(draft.base_len());
  const int size = log_.size();
  if (base == size && draft.base_hash() == low_bits(log_.hash())) return true;
  if (base < n_prompt_ || base >= size ||
      low_bits(log_.hash_at(static_cast<int>(base))) != draft.base_hash())
    fail(Code::kDataLoss, "[edge] draft: expected base {} with hash {:08x}, got {} with {:08x}",
         size, low_bits(log_.hash()), base, draft.base_hash());
  pb::Verdict& v = *add_frame(actions).mutable_verdict();
  v.set_round(draft.round());
  v.set_base_len(draft.base_len());
  for (const int32_t id : log_.from(static_cast<int>(base)))
    v.add_rebase(static_cast<uint32_t>(id));
  v.set_committed_len(static_cast<uint32_t>(size));
  v.set_hash(low_bits(log_.hash()));
  return false;
}

void ServerSession::on_tree(const pb::Draft& draft, int64_t now_us, ServerActions& actions) {
  DraftTree tree = tree_from(draft.tree(), options_.limits);
  if (phase_ != Phase::kReady)
    fail(Code::kInvalidArgument,
         "[edge] draft: expected no tree for round {} before the verdict of round {}",
         draft.round(), round_);
  if (check_base(draft, actions)) begin_round(std::move(tree), now_us, actions);
}

// The edge's quota may cut a tree; with nothing left the round does not begin.
bool ServerSession::begin_round(DraftTree tree, int64_t now_us, ServerActions& actions) {
  const int n_offered = tree.size();
  if (options_.quota) {
    int64_t retry_after_us = 0;
    const int n_rows = options_.quota->take(tree.size() + 1, now_us, retry_after_us);
    if (n_rows == 0) {
      pb::Throttle& t = *add_frame(actions).mutable_throttle();
      t.set_retry_after_ms(static_cast<uint32_t>(retry_after_us / 1000 + 1));
      t.set_reason("[quota] expected fewer rows per second");
      return false;
    }
    tree.resize(std::min(tree.size(), n_rows - 1));
  }
  round_++;
  n_offered_ = n_offered;
  phase_ = Phase::kVerifying;
  began_us_ = now_us;
  n_verified_nodes_ += static_cast<uint64_t>(tree.size());
  tree_ = tree;
  actions.offer = DraftOffer{.base_len = log_.size(), .sent_ahead = false, .tree = std::move(tree)};
  return true;
}

// For the outcomes of the round in flight. One that comes too late is of no use: its edge knows the
// verdict by now, or soon will, and sends a tree for what it says.
void ServerSession::on_branches(const pb::Draft& draft) {
  const ProtocolLimits& limits = options_.limits;
  const int n = draft.optimistic().branch_size();
  if (n > limits.max_branches)
    fail(Code::kInvalidArgument, "[edge] optimistic: expected at most {} branches, got {}",
         limits.max_branches, n);
  std::vector<Branch> branches;
  int n_nodes = 0;
  for (const pb::Branch& b : draft.optimistic().branch()) {
    if (b.assume_bonus() >= static_cast<uint32_t>(limits.n_vocab))
      fail(Code::kInvalidArgument, "[edge] optimistic: expected ids below {}, got {}",
           limits.n_vocab, b.assume_bonus());
    branches.push_back({b.assume_node(), b.assume_bonus(), tree_from(b.tree(), limits)});
    n_nodes += branches.back().tree.size();
  }
  if (n_nodes > max_guess_nodes(limits))
    fail(Code::kInvalidArgument, "[edge] optimistic: expected at most {} nodes in all, got {}",
         max_guess_nodes(limits), n_nodes);
  if (phase_ == Phase::kVerifying || phase_ == Phase::kPrefill) branches_ = std::move(branches);
}

pb::Verdict ServerSession::verdict_of(const CompletionDelta& delta, int64_t now_us) {
  pb::Verdict v;
  v.set_round(round_);
  v.set_base_len(static_cast<uint32_t>(log_.size()));
  for (const int32_t id : delta.tokens) log_.append(id);
  v.set_committed_len(static_cast<uint32_t>(log_.size()));
  v.set_hash(low_bits(log_.hash()));
  const double all_s =
      phase_ == Phase::kVerifying ? static_cast<double>(now_us - began_us_) * 1e-6 : delta.step_s;
  v.set_verify_us(microseconds(delta.step_s));
  v.set_queue_us(microseconds(std::max(0.0, all_s - delta.step_s)));
  v.set_batch(static_cast<uint32_t>(delta.n_step_rows));
  return v;
}

// The price of rows: what was cut need not be drafted and sent. More again, bit by bit, as long as
// all of it has room.
void ServerSession::advise(int n_verified, pb::Verdict& verdict) {
  if (n_verified < n_offered_)
    advice_ = std::max(1, n_verified);
  else if (advice_ > 0 && n_offered_ >= advice_)
    advice_ += 1 + advice_ / 4;
  if (advice_ >= options_.limits.max_nodes) advice_ = 0;
  if (advice_ > 0) verdict.set_next_nodes(static_cast<uint32_t>(advice_) + 1);
}

void ServerSession::try_branch(const pb::Verdict& verdict, int64_t now_us, ServerActions& actions) {
  const uint32_t node = verdict.path_size() == 0 ? 0 : verdict.path(verdict.path_size() - 1);
  const auto hit = std::find_if(branches_.begin(), branches_.end(), [&](const Branch& b) {
    return b.node == node && b.bonus == verdict.bonus();
  });
  if (hit == branches_.end()) return;
  const auto index = static_cast<uint32_t>(hit - branches_.begin());
  pb::ServerFrame& frame = actions.frames.back();
  if (!begin_round(std::move(hit->tree), now_us, actions)) return;
  actions.offer->sent_ahead = true;
  frame.mutable_verdict()->set_used_branch(index + 1);
}

ServerActions ServerSession::on_delta(const CompletionDelta& delta, int64_t now_us) {
  ServerActions actions;
  if (phase_ == Phase::kEnded) return actions;
  if (delta.finish) finish_ = delta.finish;
  if (delta.tokens.empty()) return actions;
  pb::Verdict v = verdict_of(delta, now_us);
  if (phase_ == Phase::kVerifying && delta.of_draft) advise(delta.n_draft_nodes, v);
  const bool decided = phase_ == Phase::kPrefill || (phase_ == Phase::kVerifying && delta.of_draft);
  if (decided) {
    const std::span<const int32_t> all(delta.tokens);
    if (tree_is_foreign_) {
      for (const int32_t id : all) v.add_streamed(static_cast<uint32_t>(id));
    } else {
      for (const int32_t node : follow(tree_, all.first(all.size() - 1)))
        v.add_path(static_cast<uint32_t>(node) + 1);
      v.set_bonus(static_cast<uint32_t>(all.back()));
    }
    tree_is_foreign_ = false;
    phase_ = idle_phase();
  } else {
    // The server's own tokens. A draft that came meanwhile has the wrong base: the engine drops it.
    for (const int32_t id : delta.tokens) v.add_streamed(static_cast<uint32_t>(id));
    if (phase_ == Phase::kVerifying) {
      v.set_round(--round_);  // it has not begun after all
      phase_ = idle_phase();
    }
  }
  tree_.clear();
  *add_frame(actions).mutable_verdict() = v;
  if (decided && !finish_) try_branch(v, now_us, actions);
  verdict_ = actions.frames[0].verdict();
  branches_.clear();
  return actions;
}

}  // namespace hob::edge
