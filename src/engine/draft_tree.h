#pragma once
// A tree of guessed tokens behind a sequence's last token, and what verification makes of it. Ref:
// research notes, specedge §1.5, §2.1 and §4.1.
#include <cstdint>
#include <span>
#include <vector>

namespace hob {

// Node i guesses `tokens[i]` behind node `parents[i]`, kRoot = behind the sequence's last token.
// Topological order: parents[i] < i. So every prefix of a tree is a tree.
struct DraftTree {
  static constexpr int32_t kRoot = -1;

  std::vector<int32_t> tokens, parents;
  // The drafter's estimate that a node comes true once its parent has, 0 to 1; empty = it has none.
  std::vector<float> confidence;

  int size() const { return static_cast<int>(tokens.size()); }
  bool empty() const { return tokens.empty(); }
  void clear();
  void add(int32_t token, int32_t parent);
  void add(int32_t token, int32_t parent, float node_confidence);
  // Keeps the first n nodes, or these (ascending, each with its parent).
  void resize(int n);
  void keep(std::span<const int32_t> nodes);
  // Drops nodes with more than `depth` nodes on their path, their own included.
  void cut_depth(int depth);
  // The child of `parent` with this token (the first of several); kRoot = none.
  int32_t child(int32_t parent, int32_t token) const;
};

// How the verification of a tree may end, and what to verify next if it does.
struct OutcomeGuess {
  int32_t node = DraftTree::kRoot;  // the last one accepted
  int32_t bonus = 0;                // the token behind it
  DraftTree tree;                   // behind that
};

// The longest path, in nodes.
int tree_depth(const DraftTree& tree);

// Follows the target model through a tree, row by row: at the root and at each node on the way the
// caller chooses the next token from that row's logits; while the tree has guessed it, the way goes
// on. Rows come in node order, so one pass suffices and no logits are kept. What is chosen is what
// plain decoding would choose: the rule (greedy, sampled, Gumbel-coupled) is the caller's sampler,
// and no draft probability enters.
class TreeWalk {
 public:
  explicit TreeWalk(const DraftTree& tree) : tree_(&tree) {}

  // Is the row of this node (kRoot: of the last token) on the way? Then choose() must follow.
  bool waits_for(int32_t node) const { return !done_ && node == at_; }
  void choose(int32_t token);
  // No more rows: a node whose row never came (its expert was lost, or the step had no room for it)
  // leaves the path, its token stays the right one. False: the root's row is missing.
  bool finish();

  // Accepted nodes, from the root on.
  std::span<const int32_t> path() const { return path_; }
  // The token behind the path: chosen by the model, not in the tree. Valid after finish().
  int32_t bonus() const { return bonus_; }

 private:
  const DraftTree* tree_;
  std::vector<int32_t> path_;
  int32_t at_ = DraftTree::kRoot;
  int32_t bonus_ = -1;
  bool done_ = false;
};

}  // namespace hob
