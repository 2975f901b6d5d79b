#include "engine/draft_tree.h"

#include <algorithm>

#include "base/error.h"

namespace hob {
namespace {

// Nodes on the way to each node, its own included.
std::vector<int> node_depths(const DraftTree& tree) {
  std::vector<int> depths(tree.tokens.size());
  for (size_t i = 0; i < depths.size(); i++) {
    const int32_t parent = tree.parents[i];
    depths[i] = parent == DraftTree::kRoot ? 1 : depths[static_cast<size_t>(parent)] + 1;
  }
  return depths;
}

}  // namespace

void DraftTree::clear() {
  tokens.clear();
  parents.clear();
  confidence.clear();
}

void DraftTree::add(int32_t token, int32_t parent) {
  HOB_CHECK(parent >= kRoot && parent < size());
  tokens.push_back(token);
  parents.push_back(parent);
}

void DraftTree::add(int32_t token, int32_t parent, float node_confidence) {
  add(token, parent);
  confidence.push_back(node_confidence);
}

void DraftTree::keep(std::span<const int32_t> nodes) {
  std::vector<int32_t> new_index(tokens.size(), kRoot);
  for (size_t i = 0; i < nodes.size(); i++) {
    const auto node = static_cast<size_t>(nodes[i]);
    HOB_CHECK(node >= i && node < tokens.size());
    const int32_t parent = parents[node];
    const int32_t new_parent = parent == kRoot ? kRoot : new_index[static_cast<size_t>(parent)];
    HOB_CHECK((new_parent == kRoot) == (parent == kRoot));
    new_index[node] = static_cast<int32_t>(i);
    tokens[i] = tokens[node];
    parents[i] = new_parent;
    if (!confidence.empty()) confidence[i] = confidence[node];
  }
  resize(static_cast<int>(nodes.size()));
}

void DraftTree::resize(int n) {
  HOB_CHECK(n >= 0 && n <= size());
  tokens.resize(static_cast<size_t>(n));
  parents.resize(static_cast<size_t>(n));
  if (!confidence.empty()) confidence.resize(static_cast<size_t>(n));
}

void DraftTree::cut_depth(int depth) {
  const std::vector<int> depths = node_depths(*this);
  std::vector<int32_t> nodes;
  for (int32_t i = 0; i < size(); i++)
    if (depths[static_cast<size_t>(i)] <= depth) nodes.push_back(i);
  keep(nodes);
}

int32_t DraftTree::child(int32_t parent, int32_t token) const {
  for (size_t i = static_cast<size_t>(parent + 1); i < tokens.size(); i++)
    if (parents[i] == parent && tokens[i] == token) return static_cast<int32_t>(i);
  return kRoot;
}

int tree_depth(const DraftTree& tree) {
  const std::vector<int> depths = node_depths(tree);
  return depths.empty() ? 0 : *std::max_element(depths.begin(), depths.end());
}

void TreeWalk::choose(int32_t token) {
  HOB_CHECK(!done_);
  const int32_t next = tree_->child(at_, token);
  if (next == DraftTree::kRoot) {
    bonus_ = token;
    done_ = true;
    return;
  }
  path_.push_back(next);
  at_ = next;
}

bool TreeWalk::finish() {
  if (done_) return true;
  if (path_.empty()) return false;
  bonus_ = tree_->tokens[static_cast<size_t>(path_.back())];
  path_.pop_back();
  done_ = true;
  return true;
}

}  // namespace hob
