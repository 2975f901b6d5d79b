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
               .tree = {},
               .depth = {},
               .failed = {},
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
  to.drop_tree();
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

// `n_positions`: that they take.
void Engine::check_new(const Sequence& s, std::span<const int32_t> tokens,
                       size_t n_positions) const {
  for (size_t i = 0; i < tokens.size(); i++)
    if (tokens[i] < 0 || tokens[i] >= n_vocab())
      hob::fail(Code::kInvalidArgument, "[tokens] expected ids in [0, {}), token {} is {}",
                n_vocab(), i, tokens[i]);
  if (s.tokens.size() + n_positions > static_cast<size_t>(limits_.n_ctx))
    hob::fail(Code::kInvalidArgument,
              "[context] expected at most {} tokens (--ctx), got {} ({} present + {} new)",
              limits_.n_ctx, s.tokens.size() + n_positions, s.tokens.size(), n_positions);
}

void Engine::feed(int seq, std::span<const int32_t> tokens, int n_logits) {
  HOB_CHECK(n_logits >= 0 && static_cast<size_t>(n_logits) <= tokens.size());
  Sequence& s = at(seq);
  HOB_CHECK(s.tree.empty());
  check_new(s, tokens, tokens.size());
  s.tokens.insert(s.tokens.end(), tokens.begin(), tokens.end());
  s.logits_from = static_cast<int>(s.tokens.size()) - n_logits;
}

void Engine::extend_tree(int seq, const DraftTree& nodes) {
  Sequence& s = at(seq);
  const auto first = static_cast<size_t>(s.tree.size());
  size_t n_positions = 0;
  std::vector<int32_t> depth(s.depth);
  for (size_t i = 0; i < nodes.tokens.size(); i++) {
    const int32_t parent = nodes.parents[i];
    HOB_CHECK(parent >= DraftTree::kRoot && parent < static_cast<int32_t>(first + i));
    depth.push_back(parent == DraftTree::kRoot ? 0 : depth[static_cast<size_t>(parent)] + 1);
    n_positions = std::max(n_positions, static_cast<size_t>(depth.back()) + 1);
  }
  check_new(s, nodes.tokens, n_positions);
  s.depth = std::move(depth);
  s.tree.tokens.insert(s.tree.tokens.end(), nodes.tokens.begin(), nodes.tokens.end());
  s.tree.parents.insert(s.tree.parents.end(), nodes.parents.begin(), nodes.parents.end());
  s.failed.resize(s.tree.tokens.size(), 0);
}

void Engine::accept(int seq, std::span<const int32_t> path) { accept(seq, path, {}); }

void Engine::accept(int seq, std::span<const int32_t> path, std::span<const int32_t> keep) {
  Sequence& s = at(seq);
  HOB_CHECK(s.n_pending() == 0 || (path.empty() && keep.empty()));
  std::vector<int32_t> nodes(path.begin(), path.end());
  nodes.insert(nodes.end(), keep.begin(), keep.end());
  std::vector<int32_t> new_index(s.tree.tokens.size(), DraftTree::kRoot);
  DraftTree rest;
  for (size_t i = 0; i < nodes.size(); i++) {
    const auto node = static_cast<size_t>(nodes[i]);
    HOB_CHECK(nodes[i] >= 0 && nodes[i] < s.n_tree_computed && !s.failed[node]);
    const int32_t parent = s.tree.parents[node];
    if (i < path.size()) {
      HOB_CHECK(parent == (i == 0 ? DraftTree::kRoot : nodes[i - 1]));
      s.tokens.push_back(s.tree.tokens[node]);
      continue;
    }
    const int32_t root = path.empty() ? DraftTree::kRoot : path.back();
    const int32_t new_parent =
        parent == root ? DraftTree::kRoot : new_index[static_cast<size_t>(parent)];
    HOB_CHECK(parent == root || new_parent != DraftTree::kRoot);
    new_index[node] = rest.size();
    rest.add(s.tree.tokens[node], new_parent);
  }
  if (s.n_pending() == static_cast<int>(path.size())) {  // else nothing of it was reserved yet
    kv_->compact(s.kv, nodes);
    const auto accepted = std::span<const int32_t>(s.tokens).last(path.size());
    kv_->commit_head(s.kv, static_cast<int>(path.size()),
                     s.cached ? accepted : std::span<const int32_t>());
    s.n_computed += static_cast<int>(path.size());
    s.logits_from = s.n_computed;
  }
  s.drop_tree();
  if (rest.empty()) return;
  extend_tree(seq, rest);
  s.n_tree_computed = rest.size();
}

void Engine::Sequence::drop_tree() {
  tree.clear();
  depth.clear();
  failed.clear();
  n_tree_computed = 0;
}

void Engine::rewind(int seq, int n_tok) {
  Sequence& s = at(seq);
  HOB_CHECK(n_tok >= 0 && n_tok <= s.n_computed);
  kv_->truncate(s.kv, n_tok);
  s.tokens.resize(static_cast<size_t>(n_tok));
  s.n_computed = n_tok;
  s.logits_from = n_tok;
  s.drop_tree();
  s.error = nullptr;
}

void Engine::update_views() {
  views_.clear();
  for (const Sequence& s : sequences_)
    views_.push_back({.n_pending_tok = s.n_pending() + s.tree.size() - s.n_tree_computed,
                      .n_logits_from = std::max(0, s.logits_from - s.n_computed),
                      .active = s.open && !s.error});
}

void Engine::append_rows(const RowPlan& plan) {
  Sequence& s = sequences_[static_cast<size_t>(plan.seq)];
  const int n_tok = std::min(plan.n_tok, s.n_pending()), n_nodes = plan.n_tok - n_tok;
  HOB_CHECK(n_nodes <= s.tree.size() - s.n_tree_computed);
  const auto slots = kv_->reserve(s.kv, plan.n_tok + s.n_tree_computed);
  if (!slots) {  // the pool holds n_ctx tokens of every planned sequence, so there are too many
    s.error = std::make_exception_ptr(Error(
        Code::kResourceExhausted, fmt::format("[kv] expected room for {} more tokens, {} are free",
                                              plan.n_tok, kv_->free_tokens())));
    kv_->truncate(s.kv, 0);  // its slots let the others finish
    s.n_computed = 0;
    s.drop_tree();
    return;
  }
  const std::span<const int32_t> visible = kv_->slots(s.kv);
  for (int i = 0; i < n_tok; i++) {
    const int position = s.n_computed + i;
    batch_.rows.push_back({.token = s.tokens[static_cast<size_t>(position)],
                           .position = position,
                           .seq = s.kv,
                           .kv_write_slot = (*slots)[static_cast<size_t>(i)],
                           .kv_read = visible,
                           .want_logits = position >= s.logits_from});
  }
  if (n_nodes > 0) append_nodes(s, s.n_tree_computed, n_nodes);
}

// Rows of nodes [first, first + n). Their slots lie behind those of all tokens, in node order. A
// node whose ancestors are all nodes before it, in order, sees the sequence's own list of slots,
// as a prefill would; any other a list of its own.
void Engine::append_nodes(Sequence& s, int first, int n) {
  const size_t n_tok = s.tokens.size();
  const std::span<const int32_t> all = kv_->slots(s.kv);
  for (int i = first; i < first + n; i++) {
    const auto node = static_cast<size_t>(i);
    const auto depth = static_cast<size_t>(s.depth[node]);
    std::span<const int32_t> visible = all;
    if (s.depth[node] != i) {
      const size_t at = node_slots_.size();
      node_slots_.insert(node_slots_.end(), all.begin(),
                         all.begin() + static_cast<std::ptrdiff_t>(n_tok));
      node_slots_.resize(at + n_tok + depth + 1);
      int32_t ancestor = i;
      for (size_t d = depth + 1; d-- > 0; ancestor = s.tree.parents[static_cast<size_t>(ancestor)])
        node_slots_[at + n_tok + d] = all[n_tok + static_cast<size_t>(ancestor)];
      visible = std::span<const int32_t>(node_slots_).subspan(at);
    }
    batch_.rows.push_back({.token = s.tree.tokens[node],
                           .position = static_cast<int>(n_tok + depth),
                           .seq = s.kv,
                           .kv_write_slot = all[n_tok + node],
                           .kv_read = visible,
                           .want_logits = true});
  }
}

// Row `row` of the plan's rows cannot be used. A node's row costs that node alone.
void Engine::fail(const RowPlan& plan, int row, const std::exception_ptr& error) {
  Sequence& s = sequences_[static_cast<size_t>(plan.seq)];
  const int n_tok = std::min(plan.n_tok, s.n_pending());
  if (row >= n_tok) {
    s.failed[static_cast<size_t>(s.n_tree_computed + row - n_tok)] = 1;
    return;
  }
  if (s.error) return;
  s.error = error;
}

void Engine::fail_sequences() {
  const std::vector<Decoder::RowFailure>& failures = decoder_->failed_rows();
  size_t next = 0;
  int first = 0;  // the plan's first row in the batch
  for (const RowPlan& p : plan_) {
    for (; next < failures.size() && failures[next].row < first + p.n_tok; next++)
      fail(p, failures[next].row - first, failures[next].error);
    first += p.n_tok;
    Sequence& s = sequences_[static_cast<size_t>(p.seq)];
    if (!s.error) continue;
    kv_->truncate(s.kv, s.n_computed);
    s.drop_tree();
  }
}

void Engine::commit_plan(const RowPlan& plan) {
  Sequence& s = sequences_[static_cast<size_t>(plan.seq)];
  const int n_tok = std::min(plan.n_tok, s.n_pending());
  const auto computed = std::span<const int32_t>(s.tokens).subspan(
      static_cast<size_t>(s.n_computed), static_cast<size_t>(n_tok));
  kv_->commit_head(s.kv, n_tok, s.cached ? computed : std::span<const int32_t>());
  s.n_computed += n_tok;
  s.n_tree_computed += plan.n_tok - n_tok;
}

void Engine::commit(const LogitsSink& sink) {
  const size_t n_vocab_floats = static_cast<size_t>(n_vocab());
  const float* logits = reinterpret_cast<const float*>(logits_.data());
  size_t row = 0;
  for (const RowPlan& p : plan_) {
    Sequence& s = sequences_[static_cast<size_t>(p.seq)];
    const int n_tok = static_cast<int>(s.tokens.size());
    const int first = s.n_computed, first_node = s.n_tree_computed;
    const int n_chain = std::min(p.n_tok, s.n_pending());
    if (!s.error) commit_plan(p);
    for (int i = 0; i < p.n_tok; i++) {
      if (!batch_.rows[row++].want_logits) continue;
      const int node = first_node + i - n_chain;
      const bool good = !s.error && (i < n_chain || !s.failed[static_cast<size_t>(node)]);
      if (good && sink)
        sink(p.seq, i < n_chain ? first + i : n_tok + node, {logits, n_vocab_floats});
      logits += n_vocab_floats;
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

// Rows hold spans of node_slots_: it must not move while they are made.
void Engine::reserve_node_slots() {
  size_t most = 0;
  for (const RowPlan& p : plan_) {
    const Sequence& s = sequences_[static_cast<size_t>(p.seq)];
    const int n_nodes = std::max(0, p.n_tok - s.n_pending());
    most += static_cast<size_t>(n_nodes) * (s.tokens.size() + s.tree.tokens.size());
  }
  node_slots_.clear();
  node_slots_.reserve(most);
}

void Engine::run_plan(const LogitsSink& sink) {
  batch_.rows.clear();
  reserve_node_slots();
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
