#pragma once
// One step loop for any number of sequences: schedule -> StepBatch -> forward -> commit -> logits
// to the caller. Commands drive it with step() (run, logits, perplexity, bench); serving plans the
// rows itself (serving_loop.h) and calls run().
#include <algorithm>
#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "base/aligned_buffer.h"
#include "engine/draft_tree.h"
#include "engine/scheduler.h"
#include "kv/kv_store.h"
#include "model/decoder.h"

namespace hob {

struct EngineLimits {
  int n_ctx = 0;           // tokens of one sequence
  int max_rows = 1;        // rows of a step
  int max_logit_rows = 1;  // rows of logits of a step
};

// Logits after `position`: the distribution of the token at position + 1. Node i of a draft tree
// counts as position n + i, n the number of tokens in front of the tree. Valid during the call
// only.
using LogitsSink = std::function<void(int seq, int position, std::span<const float> logits)>;

// Engine thread only. Borrows everything.
class Engine {
 public:
  Engine(Decoder& decoder, KvStore& kv, ExpertCache* experts, const EngineLimits& limits);

  const EngineLimits& limits() const { return limits_; }
  int n_vocab() const { return decoder_->spec().n_vocab; }

  // A new empty sequence; its index. With a scope (KvStore::create) what it computes enters the
  // prefix cache.
  int open(std::optional<uint64_t> scope = std::nullopt);
  void close(int seq);  // gives its KV slots back
  // A new sequence that begins with all computed tokens of `seq`; its blocks are shared until
  // written. Nothing is pending in it. None when there is no room.
  std::optional<int> fork(int seq);
  // Takes cached blocks for the start of what is pending in an empty sequence, except tokens that
  // want logits. Returns the tokens that need not be computed.
  int attach_prefix(int seq);
  // Appends tokens that the next steps will compute; the last n_logits of them want logits. Throws
  // Error(kInvalidArgument) when an id is not in the vocabulary or the context limit would be
  // exceeded; the sequence is unchanged then.
  void feed(int seq, std::span<const int32_t> tokens, int n_logits);
  // Adds nodes to the draft tree behind all that was fed; parents count from the tree's first node,
  // also those of earlier calls. The next steps compute them, each seeing its own ancestors only,
  // and want logits of all. Throws as feed() does; for the context limit its depth counts.
  void extend_tree(int seq, const DraftTree& nodes);
  // Ends the tree: the computed nodes `path` (each the child of the one before, the first a child
  // of the root) become tokens of the sequence, all others are dropped.
  void accept(int seq, std::span<const int32_t> path);
  // The same, but the computed nodes `keep`, descendants of the path's last node, stay as a tree in
  // this order (ascending).
  void accept(int seq, std::span<const int32_t> path, std::span<const int32_t> keep);
  // Drops what is pending, keeps the first n_tok computed tokens, clears the error.
  void rewind(int seq, int n_tok);

  // A hint: the next step will probably compute these tokens (Decoder::expect).
  void expect(std::span<const int32_t> tokens) { decoder_->expect(tokens); }
  // Computes one step. False when nothing was pending. A sequence whose rows failed gets its
  // error() and is taken out of the following steps; all others go on.
  bool step(const LogitsSink& sink);
  // The same with rows that the caller chose: at most `limits()`, each sequence once, n_tok pending
  // tokens and then nodes at least in each. Nodes beyond stay for later steps.
  void run(std::span<const RowPlan> plan, const LogitsSink& sink);

  // Computed and pending tokens, in order.
  std::span<const int32_t> tokens(int seq) const { return at(seq).tokens; }
  int n_computed(int seq) const { return at(seq).n_computed; }
  int n_pending(int seq) const { return at(seq).n_pending(); }
  // Nodes of its tree that are not computed yet, and all nodes. A node whose experts were lost
  // counts as computed, but sends no logits.
  int n_pending_nodes(int seq) const { return at(seq).tree.size() - at(seq).n_tree_computed; }
  const DraftTree& tree(int seq) const { return at(seq).tree; }
  // Rows of logits that its next n tokens and nodes want.
  int n_logit_rows(int seq, int n_tok) const {
    return std::max(0,
                    at(seq).n_computed + n_tok - std::max(at(seq).logits_from, at(seq).n_computed));
  }
  // Free blocks that its next n tokens take.
  int n_blocks_needed(int seq, int n_tok) const { return kv_->blocks_needed(at(seq).kv, n_tok); }
  // Blocks that its computed tokens lie in, shared ones included.
  int n_blocks(int seq) const {
    return (at(seq).n_computed + kKvBlock - 1) / kKvBlock -
           kv_->first_position(at(seq).kv) / kKvBlock;
  }
  void forget_prefixes() { kv_->clear_prefix_cache(); }  // something computed was wrong
  const KvStore& kv() const { return *kv_; }
  const std::exception_ptr& error(int seq) const { return at(seq).error; }
  ExpertCacheStats expert_stats() const {
    return experts_ ? experts_->stats() : ExpertCacheStats{};
  }

 private:
  struct Sequence {
    bool open = false;
    bool cached = false;  // computed blocks enter the prefix cache
    SeqId kv = 0;
    std::vector<int32_t> tokens;
    int n_computed = 0;
    int logits_from = 0;  // positions >= this want logits
    DraftTree tree;
    std::vector<int32_t> depth;   // of each node; children of the root: 0
    std::vector<uint8_t> failed;  // nodes that could not be computed
    int n_tree_computed = 0;
    int n_pending() const { return static_cast<int>(tokens.size()) - n_computed; }
    void drop_tree();
    std::exception_ptr error;
  };
  const Sequence& at(int seq) const;
  Sequence& at(int seq);
  void check_new(const Sequence& s, std::span<const int32_t> tokens, size_t n_positions) const;
  int new_index();
  void update_views();
  void run_plan(const LogitsSink& sink);
  void append_rows(const RowPlan& plan);
  void reserve_node_slots();
  void append_nodes(Sequence& s, int first, int n);
  void fail(const RowPlan& plan, int row, const std::exception_ptr& error);
  void fail_sequences();
  void commit_plan(const RowPlan& plan);
  void commit(const LogitsSink& sink);

  Decoder* decoder_;
  KvStore* kv_;
  ExpertCache* experts_;
  EngineLimits limits_;
  std::vector<Sequence> sequences_;
  AlignedBuffer logits_;  // [max_logit_rows, n_vocab] f32
  int next_first_ = 0;
  // The present step; members, so that a step allocates nothing.
  std::vector<SeqView> views_;
  std::vector<RowPlan> plan_;
  StepBatch batch_;
  std::vector<int32_t> node_slots_;  // what nodes off the first branch see
};

}  // namespace hob
