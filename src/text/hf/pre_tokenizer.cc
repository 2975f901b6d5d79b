#include "text/hf/pre_tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "text/hf/raw_bytes.h"
#include "text/hf/unicode_forms.h"
#include "text/pretokenizer.h"
#include "text/unicode.h"

namespace hob::hf {
namespace {

struct Span {
  Match at;
  bool matched;
};

// The whole text as matches and what lies between them.
std::vector<Span> spans_of(std::string_view text, const std::vector<Match>& matches, bool invert) {
  std::vector<Span> spans;
  size_t end = 0;
  for (const Match& match : matches) {
    if (end < match.begin) spans.push_back({{end, match.begin}, invert});
    spans.push_back({match, !invert});
    end = match.end;
  }
  if (end < text.size()) spans.push_back({{end, text.size()}, invert});
  return spans;
}

// joins(span, the one before it in this direction): do they become one piece?
template <class Joins>
std::vector<Match> joined(const std::vector<Span>& spans, Joins&& joins) {
  std::vector<Match> pieces;
  bool previous = false;
  for (const Span& span : spans) {
    if (!pieces.empty() && joins(span.matched, previous)) {
      pieces.back().begin = std::min(pieces.back().begin, span.at.begin);
      pieces.back().end = std::max(pieces.back().end, span.at.end);
    } else {
      pieces.push_back(span.at);
    }
    previous = span.matched;
  }
  return pieces;
}

void append_pieces(const Stretch& stretch, const std::vector<Match>& pieces,
                   std::vector<Stretch>& words) {
  for (const Match& piece : pieces) {
    if (piece.begin == piece.end) continue;
    words.push_back({stretch.text.substr(piece.begin, piece.end - piece.begin),
                     stretch.from_start && piece.begin == 0});
  }
}

// Every character that `is` holds for is a match of its own.
template <class Is>
std::vector<Match> matching_characters(std::string_view text, Is&& is) {
  std::vector<Match> matches;
  for (size_t i = 0; i < text.size();) {
    const size_t begin = i;
    if (is(next_code_point(text, i))) matches.push_back({begin, i});
  }
  return matches;
}

Behavior behavior_of(const Node& node, const char* otherwise = nullptr) {
  if (otherwise != nullptr && !node.find("behavior")) return Behavior::kIsolated;
  return static_cast<Behavior>(node.one_of(
      "behavior", {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"}));
}

// Cuts at the characters of a class.
class ByCharacter final : public PreTokenizer {
 public:
  using Is = bool (*)(uint32_t);
  ByCharacter(Is is, Behavior behavior) : is_(is), behavior_(behavior) {}
  void split(const Stretch& s, const WorkBudget&, std::vector<Stretch>& words) const override {
    append_pieces(s, pieces_of(s.text, matching_characters(s.text, is_), behavior_, false), words);
  }

 private:
  Is is_;
  Behavior behavior_;
};

class Split final : public PreTokenizer {
 public:
  explicit Split(const Node& node)
      : pattern_(node), behavior_(behavior_of(node)), invert_(node.flag("invert", false)) {}
  void split(const Stretch& s, const WorkBudget& budget,
             std::vector<Stretch>& words) const override {
    append_pieces(s, pieces_of(s.text, pattern_.find_all(s.text, budget), behavior_, invert_),
                  words);
  }

 private:
  Pattern pattern_;
  Behavior behavior_;
  bool invert_;
};

// Words and runs of what is neither word nor space.
class Whitespace final : public PreTokenizer {
 public:
  Whitespace() : regex_(kPattern, "Whitespace") {}
  void split(const Stretch& s, const WorkBudget& budget,
             std::vector<Stretch>& words) const override {
    append_pieces(s, pieces_of(s.text, regex_.find_all(s.text, budget), Behavior::kRemoved, true),
                  words);
  }

 private:
  // Rust's \w, which is not Oniguruma's.
  static constexpr std::string_view kPattern =
      R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200C\u200D]+|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200C\u200D\s]+)";
  Regex regex_;
};

class Bert final : public PreTokenizer {
 public:
  void split(const Stretch& s, const WorkBudget& budget,
             std::vector<Stretch>& words) const override {
    std::vector<Stretch> between;
    ByCharacter(is_white_space, Behavior::kRemoved).split(s, budget, between);
    const ByCharacter punctuation(is_punctuation, Behavior::kIsolated);
    for (const Stretch& word : between) punctuation.split(word, budget, words);
  }
};

class Metaspace final : public PreTokenizer {
 public:
  explicit Metaspace(const Node& node) : mark_(node.string("replacement")) {
    size_t i = 0;
    if (!mark_.empty()) next_code_point(mark_, i);
    if (i == 0 || i != mark_.size()) node.find("replacement")->refuse("one character");
    split_ = node.flag("split", true);
    if (node.find("prepend_scheme")) {
      scheme_ = static_cast<Scheme>(node.one_of("prepend_scheme", {"always", "first", "never"}));
    }
    // The older form of the same.
    if (!node.flag("add_prefix_space", true)) scheme_ = Scheme::kNever;
  }

  void split(const Stretch& s, const WorkBudget&, std::vector<Stretch>& words) const override {
    Stretch marked{"", s.from_start};
    for (const char c : s.text) {
      if (c == ' ') {
        marked.text += mark_;
      } else {
        marked.text.push_back(c);
      }
    }
    const bool wanted = scheme_ == Scheme::kAlways || (scheme_ == Scheme::kFirst && s.from_start);
    if (wanted && !marked.text.starts_with(mark_)) marked.text.insert(0, mark_);
    std::vector<Match> marks;
    for (size_t i = marked.text.find(mark_); split_ && i != std::string::npos;
         i = marked.text.find(mark_, i + mark_.size()))
      marks.push_back({i, i + mark_.size()});
    append_pieces(marked, pieces_of(marked.text, marks, Behavior::kMergedWithNext, false), words);
  }

 private:
  enum class Scheme { kAlways, kFirst, kNever };
  std::string mark_;
  Scheme scheme_ = Scheme::kAlways;
  bool split_ = true;
};

class ByteLevel final : public PreTokenizer {
 public:
  explicit ByteLevel(const Node& node)
      : add_space_(node.flag("add_prefix_space")), use_regex_(node.flag("use_regex", true)) {}
  void split(const Stretch& s, const WorkBudget&, std::vector<Stretch>& words) const override {
    Stretch whole = s;
    if (add_space_ && !whole.text.starts_with(' ')) whole.text.insert(whole.text.begin(), ' ');
    if (!use_regex_) {
      words.push_back({byte_characters(whole.text), whole.from_start});
      return;
    }
    const RuneText runes = decode_runes(whole.text);
    size_t begin = 0;
    for (const uint32_t end_rune : split_words(*find_pretokenizer("gpt-2"), runes)) {
      const size_t end = runes.begin_byte[end_rune];
      const std::string_view word = std::string_view(whole.text).substr(begin, end - begin);
      words.push_back({byte_characters(word), whole.from_start && begin == 0});
      begin = end;
    }
  }

 private:
  bool add_space_, use_regex_;
};

class CharDelimiter final : public PreTokenizer {
 public:
  explicit CharDelimiter(const Node& node) : delimiter_(node.string("delimiter")) {
    size_t i = 0;
    if (!delimiter_.empty()) next_code_point(delimiter_, i);
    if (i == 0 || i != delimiter_.size()) node.find("delimiter")->refuse("one character");
  }
  void split(const Stretch& s, const WorkBudget&, std::vector<Stretch>& words) const override {
    const auto matches = matching_characters(s.text, [&](uint32_t c) {
      size_t i = 0;
      return c == next_code_point(delimiter_, i);
    });
    append_pieces(s, pieces_of(s.text, matches, Behavior::kRemoved, false), words);
  }

 private:
  std::string delimiter_;
};

class Sequence final : public PreTokenizer {
 public:
  explicit Sequence(const Node& node) {
    for (size_t i = 0; i < node.list_size("pretokenizers"); ++i) {
      const Node step = node.item("pretokenizers", i);
      if (!step.value().is_object()) step.refuse("an object");
      steps_.push_back(make_pre_tokenizer(step));
    }
  }
  void split(const Stretch& s, const WorkBudget& budget,
             std::vector<Stretch>& words) const override {
    std::vector<Stretch> now = {s}, finer;
    for (const auto& step : steps_) {
      finer.clear();
      for (const Stretch& word : now) step->split(word, budget, finer);
      now.swap(finer);
    }
    std::move(now.begin(), now.end(), std::back_inserter(words));
  }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> steps_;
};

std::unique_ptr<PreTokenizer> make_digits(const Node& node) {
  const bool each = node.flag("individual_digits");
  return std::make_unique<ByCharacter>(is_number,
                                       each ? Behavior::kIsolated : Behavior::kContiguous);
}

std::unique_ptr<PreTokenizer> make_punctuation(const Node& node) {
  return std::make_unique<ByCharacter>(is_punctuation, behavior_of(node, "Isolated"));
}

std::unique_ptr<PreTokenizer> make_whitespace_split(const Node&) {
  return std::make_unique<ByCharacter>(is_white_space, Behavior::kRemoved);
}

template <class T>
std::unique_ptr<PreTokenizer> make(const Node& node) {
  if constexpr (std::is_default_constructible_v<T>) {
    return std::make_unique<T>();
  } else {
    return std::make_unique<T>(node);
  }
}

struct Kind {
  std::string_view name;
  std::unique_ptr<PreTokenizer> (*make)(const Node&);
};
constexpr Kind kKinds[] = {
    {"ByteLevel", make<ByteLevel>},
    {"Split", make<Split>},
    {"Whitespace", make<Whitespace>},
    {"WhitespaceSplit", make_whitespace_split},
    {"BertPreTokenizer", make<Bert>},
    {"Metaspace", make<Metaspace>},
    {"Digits", make_digits},
    {"Punctuation", make_punctuation},
    {"CharDelimiterSplit", make<CharDelimiter>},
    {"Sequence", make<Sequence>},
};

}  // namespace

std::vector<Match> pieces_of(std::string_view text, const std::vector<Match>& matches,
                             Behavior behavior, bool invert) {
  std::vector<Span> spans = spans_of(text, matches, invert);
  std::vector<Match> pieces;
  switch (behavior) {
    case Behavior::kRemoved:
      for (const Span& span : spans) {
        if (!span.matched) pieces.push_back(span.at);
      }
      return pieces;
    case Behavior::kIsolated:
      for (const Span& span : spans) pieces.push_back(span.at);
      return pieces;
    case Behavior::kContiguous:
      return joined(spans, [](bool now, bool previous) { return now == previous; });
    case Behavior::kMergedWithPrevious:
      return joined(spans, [](bool now, bool previous) { return now && !previous; });
    case Behavior::kMergedWithNext:
      std::reverse(spans.begin(), spans.end());
      pieces = joined(spans, [](bool now, bool previous) { return now && !previous; });
      std::reverse(pieces.begin(), pieces.end());
      return pieces;
  }
  return pieces;
}

std::unique_ptr<PreTokenizer> make_pre_tokenizer(const Node& node) {
  if (node.is_null()) return nullptr;
  const std::string type = node.type();
  for (const Kind& kind : kKinds) {
    if (kind.name == type) return kind.make(node);
  }
  fail(Code::kUnimplemented,
       "[tokenizer] {}: expected a pre-tokenizer that hob knows, file has \"{}\"", node.path(),
       type);
}

}  // namespace hob::hf
