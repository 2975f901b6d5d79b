#include "engine/engine.h"

#include <algorithm>

#include "base/error.h"

namespace hob {

Engine::Engine(Decoder& decoder, KvStore& kv, ExpertCache* experts, const EngineLimits& limits)
    : decoder_(&decoder),
      kv_(&kv),
      experts_(experts),
      limits_(limits),
      logits_(static_cast<size_t>(limits.max_logit_rows) *
              static_cast<size_t>(decoder.spec().n_vocab) * sizeof(float)) {
  HOB_CHECK(limits.n_ctx >= 1 && limits.max_rows >= 1 && limits.max_logit_rows >= 1);
}

const Engine::Sequence& Engine::at(int seq) const {
  HOB_CHECK(seq >= 0 && static_cast<size_t>(seq) < sequences_.size() &&
            sequences_[static_cast<size_t>(seq)].open);
  return sequences_[static_cast<size_t>(seq)];
}

Engine::Sequence& Engine::at(int seq) {
  return const_cast<Sequence&>(static_cast<const Engine*>(this)->at(seq));
}

int Engine::new_index() {
  size_t i = 0;
  while (i < sequences_.size() && sequences_[i].open) i++;
  if (i == sequences_.size()) sequences_.emplace_back();
  return static_cast<int>(i);
}

int Engine::open(std::optional<uint64_t> scope) {
  const int i = new_index();
  Sequence& s = sequences_[static_cast<size_t>(i)];
  s = Sequence{.open = true,
               .cached = scope.has_value(),
               .kv = kv_->create(scope.value_or(0)),
               .tokens = {},
               .error = nullptr};
  s.tokens.reserve(static_cast<size_t>(limits_.n_ctx));
  if (experts_) experts_->begin_sequence();
  return i;
}

void Engine::close(int seq) {
  kv_->free(at(seq).kv);
  at(seq) = Sequence{};
}

std::optional<int> Engine::fork(int seq) {
  const std::optional<SeqId> kv = kv_->share(at(seq).kv, at(seq).n_computed);
  if (!kv) return std::nullopt;
  const int i = new_index();  // may move the sequences
  Sequence& to = sequences_[static_cast<size_t>(i)];
  to = at(seq);
  to.kv = *kv;
  to.tokens.reserve(static_cast<size_t>(limits_.n_ctx));
  to.tokens.resize(static_cast<size_t>(to.n_computed));
  to.logits_from = to.n_computed;
  return i;
}

int Engine::attach_prefix(int seq) {
  Sequence& s = at(seq);
  HOB_CHECK(s.cached && s.n_computed == 0);
  // The cache keeps the last token of what it is shown for computing: so that one may want logits.
  const int n_usable = std::min(s.logits_from + 1, static_cast<int>(s.tokens.size()));
  if (n_usable > 1)
    s.n_computed =
        kv_->attach_prefix(s.kv, std::span(s.tokens).first(static_cast<size_t>(n_usable)));
  return s.n_computed;
}

void Engine::feed(int seq, std::span<const int32_t> tokens, int n_logits) {
  HOB_CHECK(n_logits >= 0 && static_cast<size_t>(n_logits) <= tokens.size());
  Sequence& s = at(seq);
  for (size_t i = 0; i < tokens.size(); i++)
    if (tokens[i] < 0 || tokens[i] >= n_vocab())
      fail(Code::kInvalidArgument, "[tokens] expected ids in [0, {}), token {} is {}", n_vocab(), i,
           tokens[i]);
  if (s.tokens.size() + tokens.size() > static_cast<size_t>(limits_.n_ctx))
    fail(Code::kInvalidArgument,
         "[context] expected at most {} tokens (--ctx), got {} ({} present + {} new)",
         limits_.n_ctx, s.tokens.size() + tokens.size(), s.tokens.size(), tokens.size());
  s.tokens.insert(s.tokens.end(), tokens.begin(), tokens.end());
  s.logits_from = static_cast<int>(s.tokens.size()) - n_logits;
}

void Engine::rewind(int seq, int n_tok) {
  Sequence& s = at(seq);
  HOB_CHECK(n_tok >= 0 && n_tok <= s.n_computed);
  kv_->truncate(s.kv, n_tok);
  s.tokens.resize(static_cast<size_t>(n_tok));
  s.n_computed = n_tok;
  s.logits_from = n_tok;
  s.error = nullptr;
}

void Engine::update_views() {
  views_.clear();
  for (const Sequence& s : sequences_)
    views_.push_back({.n_pending_tok = static_cast<int>(s.tokens.size()) - s.n_computed,
                      .n_logits_from = std::max(0, s.logits_from - s.n_computed),
                      .active = s.open && !s.error});
}

void Engine::append_rows(const RowPlan& plan) {
  Sequence& s = sequences_[static_cast<size_t>(plan.seq)];
  const auto slots = kv_->reserve(s.kv, plan.n_tok);
  if (!slots) {  // the pool holds n_ctx tokens of every planned sequence, so there are too many
    s.error = std::make_exception_ptr(Error(
        Code::kResourceExhausted, fmt::format("[kv] expected room for {} more tokens, {} are free",
                                              plan.n_tok, kv_->free_tokens())));
    kv_->truncate(s.kv, 0);  // its slots let the others finish
    s.n_computed = 0;
    return;
  }
  const std::span<const int32_t> visible = kv_->slots(s.kv);
  for (int i = 0; i < plan.n_tok; i++) {
    const int position = s.n_computed + i;
    batch_.rows.push_back({.token = s.tokens[static_cast<size_t>(position)],
                           .position = position,
                           .seq = s.kv,
                           .kv_write_slot = (*slots)[static_cast<size_t>(i)],
                           .kv_read = visible,
                           .want_logits = position >= s.logits_from});
  }
}

void Engine::fail_sequences() {
  for (const Decoder::RowFailure& failure : decoder_->failed_rows()) {
    const SeqId kv = batch_.rows[static_cast<size_t>(failure.row)].seq;
    for (const RowPlan& p : plan_) {
      Sequence& s = sequences_[static_cast<size_t>(p.seq)];
      if (s.kv != kv || s.error) continue;
      s.error = failure.error;
      kv_->truncate(s.kv, s.n_computed);
    }
  }
}

void Engine::commit(const LogitsSink& sink) {
  const size_t n_vocab_floats = static_cast<size_t>(n_vocab());
  const float* row = reinterpret_cast<const float*>(logits_.data());
  for (const RowPlan& p : plan_) {
    Sequence& s = sequences_[static_cast<size_t>(p.seq)];
    const int first = s.n_computed;
    if (!s.error) {
      const auto computed = std::span<const int32_t>(s.tokens).subspan(static_cast<size_t>(first));
      kv_->commit(
          s.kv, p.n_tok,
          s.cached ? computed.first(static_cast<size_t>(p.n_tok)) : std::span<const int32_t>());
      s.n_computed += p.n_tok;
    }
    for (int position = std::max(first, s.logits_from); position < first + p.n_tok; position++) {
      if (!s.error && sink) sink(p.seq, position, {row, n_vocab_floats});
      row += n_vocab_floats;
    }
  }
}

bool Engine::step(const LogitsSink& sink) {
  update_views();
  plan_ =
      schedule(views_, {limits_.max_rows, limits_.max_logit_rows}, next_first_, std::move(plan_));
  if (plan_.empty()) return false;
  next_first_ = (next_first_ + 1) % static_cast<int>(sequences_.size());
  run_plan(sink);
  return true;
}

void Engine::run(std::span<const RowPlan> plan, const LogitsSink& sink) {
  plan_.assign(plan.begin(), plan.end());
  run_plan(sink);
}

void Engine::run_plan(const LogitsSink& sink) {
  batch_.rows.clear();
  for (const RowPlan& p : plan_) append_rows(p);
  std::erase_if(plan_, [&](const RowPlan& p) {
    return sequences_[static_cast<size_t>(p.seq)].error != nullptr;
  });
  if (batch_.rows.empty()) return;
  const Mat logits{.data = reinterpret_cast<float*>(logits_.data()),
                   .rows = batch_.n_logits(),
                   .cols = n_vocab(),
                   .stride = n_vocab()};
  HOB_CHECK(logits.rows <= limits_.max_logit_rows);
  decoder_->forward(batch_, *kv_, logits);
  fail_sequences();
  commit(sink);
}

}  // namespace hob
