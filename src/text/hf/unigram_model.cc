#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "text/hf/model.h"
#include "text/hf/prefix_table.h"
#include "text/hf/raw_bytes.h"

namespace hob::hf {
namespace {

// A character that no token covers costs this much more than the worst token.
constexpr double kUnknownPenalty = 10.0;
// Published ones have at most some 50 bytes; a bound keeps the search linear whatever the file
// says.
constexpr size_t kMaxTokenBytes = 1024;

// The cut into tokens with the largest sum of scores (Viterbi).
class UnigramModel final : public Model {
 public:
  UnigramModel(const Node& node, const ModelTokens& tokens);
  void encode(std::string_view word, std::vector<TokenId>& out) const override;

 private:
  struct Step {
    double score = 0.0;
    size_t begin = kNone;  // where the token that ends here begins
    TokenId id = -1;
  };
  static constexpr size_t kNone = std::numeric_limits<size_t>::max();

  void read_tokens(const Node& node);
  std::vector<Step> best_steps(std::string_view word) const;
  void append_unknown(std::string_view text, std::vector<TokenId>& out) const;

  const ModelTokens& tokens_;
  PrefixTable table_;
  std::vector<double> scores_;  // by id
  double unknown_score_ = 0.0;
  TokenId unknown_ = -1;
  bool byte_fallback_;
};

UnigramModel::UnigramModel(const Node& node, const ModelTokens& tokens)
    : tokens_(tokens), byte_fallback_(node.flag("byte_fallback", false)) {
  read_tokens(node);
  if (node.find("unk_id")) {
    unknown_ =
        static_cast<TokenId>(node.integer("unk_id", 0, static_cast<int64_t>(scores_.size()) - 1));
  }
}

void UnigramModel::read_tokens(const Node& node) {
  std::vector<PrefixTable::Entry> entries;
  double worst = 0.0;
  const size_t n = node.list_size("vocab");
  for (size_t i = 0; i < n; ++i) {
    const Node item = node.item("vocab", i);
    const std::string& text = item.value()[0].get_ref<const std::string&>();  // checked before
    const double score = item.value()[1].get<double>();
    scores_.push_back(score);
    worst = i == 0 ? score : std::min(worst, score);
    if (text.size() > kMaxTokenBytes) {
      fail(Code::kDataLoss, "[tokenizer] {}: expected a token of at most {} bytes, file has {}",
           item.path(), kMaxTokenBytes, text.size());
    }
    if (tokens_.find(text) >= 0) entries.push_back({text, static_cast<TokenId>(i)});
  }
  unknown_score_ = worst - kUnknownPenalty;
  table_ = PrefixTable(std::move(entries));
}

std::vector<UnigramModel::Step> UnigramModel::best_steps(std::string_view word) const {
  std::vector<Step> steps(word.size() + 1);
  for (size_t begin = 0, next = 0; begin < word.size(); begin = next) {
    next_code_point(word, next);
    const double so_far = steps[begin].score;
    const auto offer = [&](size_t end, double score, TokenId id) {
      Step& step = steps[end];
      if (step.begin == kNone || score > step.score) step = {score, begin, id};
    };
    bool covered = false;
    table_.prefixes(word.substr(begin), [&](size_t length, TokenId id) {
      offer(begin + length, so_far + scores_[static_cast<size_t>(id)], id);
      covered = covered || begin + length == next;
    });
    if (!covered) offer(next, so_far + unknown_score_, unknown_);
  }
  return steps;
}

void UnigramModel::append_unknown(std::string_view text, std::vector<TokenId>& out) const {
  if (byte_fallback_ && append_byte_tokens(tokens_, text, out)) return;
  if (unknown_ < 0) {
    fail(Code::kInvalidArgument,
         "[tokenizer] expected characters of the vocabulary, which has no unknown token, got {} "
         "bytes of others",
         text.size());
  }
  out.push_back(unknown_);
}

void UnigramModel::encode(std::string_view word, std::vector<TokenId>& out) const {
  const std::vector<Step> steps = best_steps(word);
  std::vector<size_t> ends;
  for (size_t end = word.size(); end > 0; end = steps[end].begin) ends.push_back(end);
  std::reverse(ends.begin(), ends.end());
  // Neighbouring unknown characters are one unknown token.
  size_t unknown_begin = kNone;
  for (const size_t end : ends) {
    const Step& step = steps[end];
    const bool unknown = step.id == unknown_;
    if (unknown && unknown_begin == kNone) unknown_begin = step.begin;
    if (!unknown && unknown_begin != kNone) {
      append_unknown(word.substr(unknown_begin, step.begin - unknown_begin), out);
      unknown_begin = kNone;
    }
    if (!unknown) out.push_back(step.id);
  }
  if (unknown_begin != kNone) append_unknown(word.substr(unknown_begin), out);
}

}  // namespace

std::unique_ptr<Model> make_unigram(const Node& node, const ModelTokens& tokens) {
  return std::make_unique<UnigramModel>(node, tokens);
}

}  // namespace hob::hf
