#include "text/hf/normalizer.h"

#include <array>

#include "base/error.h"
#include "text/bpe_tokenizer.h"
#include "text/hf/charsmap.h"
#include "text/hf/raw_bytes.h"
#include "text/hf/unicode_forms.h"
#include "text/unicode.h"

namespace hob::hf {
namespace {

// Characters that `keep` refuses go. What goes at the front was the first of the input.
template <class Keep>
void filter(Stretch& stretch, Keep&& keep) {
  std::string out;
  out.reserve(stretch.text.size());
  for (size_t i = 0; i < stretch.text.size();) {
    const size_t begin = i;
    const uint32_t c = next_code_point(stretch.text, i);
    if (keep(c)) {
      out.append(stretch.text, begin, i - begin);
    } else if (begin == 0) {
      stretch.from_start = false;
    }
  }
  stretch.text = std::move(out);
}

template <class Map>
void map_characters(std::string& text, Map&& map) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) append_utf8(map(next_code_point(text, i)), out);
  text = std::move(out);
}

class FormNormalizer final : public Normalizer {
 public:
  explicit FormNormalizer(NormalForm form) : form_(form) {}
  void apply(Stretch& s, const WorkBudget&) const override {
    s.text = to_normal_form(s.text, form_);
  }

 private:
  NormalForm form_;
};

class Lowercase final : public Normalizer {
 public:
  void apply(Stretch& s, const WorkBudget&) const override { s.text = to_lower(s.text); }
};

class Strip final : public Normalizer {
 public:
  explicit Strip(const Node& node)
      : left_(node.flag("strip_left")), right_(node.flag("strip_right")) {}
  void apply(Stretch& s, const WorkBudget&) const override {
    size_t begin = 0, end = s.text.size();
    for (size_t i = 0; left_ && i < end; begin = i) {
      if (!is_white_space(next_code_point(s.text, i))) break;
    }
    while (right_ && end > begin) {
      const size_t last = previous_character(s.text, end);
      size_t i = last;
      if (!is_white_space(next_code_point(s.text, i))) break;
      end = last;
    }
    s.from_start = s.from_start && begin == 0;
    s.text = s.text.substr(begin, end - begin);
  }

 private:
  bool left_, right_;
};

class StripAccents final : public Normalizer {
 public:
  void apply(Stretch& s, const WorkBudget&) const override {
    filter(s, [](uint32_t c) { return !is_mark(c); });
  }
};

class Replace final : public Normalizer {
 public:
  explicit Replace(const Node& node) : pattern_(node), content_(node.string("content")) {}
  void apply(Stretch& s, const WorkBudget& budget) const override {
    std::string out;
    size_t begin = 0;
    for (const Match& match : pattern_.find_all(s.text, budget)) {
      out.append(s.text, begin, match.begin - begin).append(content_);
      budget.check_size(out.size());
      begin = match.end;
      // The replacement stands for the last character that it replaces.
      size_t first_end = 0;
      if (match.begin > 0 || match.end == 0) continue;
      next_code_point(s.text, first_end);
      if (first_end < match.end || content_.empty()) s.from_start = false;
    }
    s.text = out.append(s.text, begin);
  }

 private:
  Pattern pattern_;
  std::string content_;
};

class Prepend final : public Normalizer {
 public:
  explicit Prepend(const Node& node) : text_(node.string("prepend")) {}
  void apply(Stretch& s, const WorkBudget&) const override {
    if (!s.text.empty()) s.text.insert(0, text_);
  }

 private:
  std::string text_;
};

// The CJK Unified Ideographs blocks.
bool is_ideograph(uint32_t c) {
  constexpr std::array<std::array<uint32_t, 2>, 8> kBlocks = {{{0x3400, 0x4DBF},
                                                               {0x4E00, 0x9FFF},
                                                               {0xF900, 0xFAFF},
                                                               {0x20000, 0x2A6DF},
                                                               {0x2A700, 0x2B73F},
                                                               {0x2B740, 0x2B81F},
                                                               {0x2B920, 0x2CEAF},
                                                               {0x2F800, 0x2FA1F}}};
  for (const auto& [first, last] : kBlocks) {
    if (c >= first && c <= last) return true;
  }
  return false;
}

class BertNormalizer final : public Normalizer {
 public:
  explicit BertNormalizer(const Node& node)
      : clean_(node.flag("clean_text", true)),
        chinese_(node.flag("handle_chinese_chars", true)),
        lower_(node.flag("lowercase", true)),
        accents_(node.flag("strip_accents", lower_)) {}

  void apply(Stretch& s, const WorkBudget&) const override {
    if (clean_) clean(s);
    if (chinese_) set_apart(s.text);
    if (accents_) {
      s.text = to_normal_form(s.text, NormalForm::kNfd);
      filter(s, [](uint32_t c) { return !is_nonspacing_mark(c); });
    }
    if (lower_) s.text = to_lower(s.text);
  }

 private:
  static void clean(Stretch& s) {
    const auto blank = [](uint32_t c) { return c == '\t' || c == '\n' || c == '\r'; };
    filter(s, [&](uint32_t c) { return blank(c) || (c != 0 && c != 0xFFFD && !is_other(c)); });
    map_characters(s.text, [](uint32_t c) { return is_white_space(c) ? ' ' : c; });
  }
  static void set_apart(std::string& text) {
    std::string out;
    out.reserve(text.size());
    for (size_t i = 0; i < text.size();) {
      const size_t begin = i;
      const bool apart = is_ideograph(next_code_point(text, i));
      if (apart) out.push_back(' ');
      out.append(text, begin, i - begin);
      if (apart) out.push_back(' ');
    }
    text = std::move(out);
  }

  bool clean_, chinese_, lower_, accents_;
};

// SentencePiece's rules for machine translation.
class Nmt final : public Normalizer {
 public:
  void apply(Stretch& s, const WorkBudget&) const override {
    filter(s, [](uint32_t c) {
      const bool control = (c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F);
      return !control && c != 0x7F && c != 0x8F && c != 0x9F;
    });
    map_characters(s.text, [](uint32_t c) { return is_blank(c) ? ' ' : c; });
  }

 private:
  static bool is_blank(uint32_t c) {
    return c == 0x9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 ||
           (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
           c == 0xFEFF || c == 0xFFFD;
  }
};

class Precompiled final : public Normalizer {
 public:
  explicit Precompiled(const Node& node)
      : map_(node.string("precompiled_charsmap"), node.path() + ".precompiled_charsmap") {}
  void apply(Stretch& s, const WorkBudget& budget) const override {
    s.text = map_.apply(s.text, budget);
  }

 private:
  Charsmap map_;
};

class ByteLevel final : public Normalizer {
 public:
  void apply(Stretch& s, const WorkBudget&) const override { s.text = byte_characters(s.text); }
};

class Sequence final : public Normalizer {
 public:
  explicit Sequence(const Node& node) {
    for (size_t i = 0; i < node.list_size("normalizers"); ++i) {
      const Node step = node.item("normalizers", i);
      if (!step.value().is_object()) step.refuse("an object");
      steps_.push_back(make_normalizer(step));
    }
  }
  void apply(Stretch& s, const WorkBudget& budget) const override {
    for (const auto& step : steps_) {
      step->apply(s, budget);
      budget.check_size(s.text.size());
    }
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> steps_;
};

template <class T>
std::unique_ptr<Normalizer> make(const Node& node) {
  if constexpr (std::is_default_constructible_v<T>) {
    return std::make_unique<T>();
  } else {
    return std::make_unique<T>(node);
  }
}

template <NormalForm form>
std::unique_ptr<Normalizer> make_form(const Node&) {
  return std::make_unique<FormNormalizer>(form);
}

struct Kind {
  std::string_view name;
  std::unique_ptr<Normalizer> (*make)(const Node&);
};
constexpr Kind kKinds[] = {
    {"NFC", make_form<NormalForm::kNfc>},
    {"NFD", make_form<NormalForm::kNfd>},
    {"NFKC", make_form<NormalForm::kNfkc>},
    {"NFKD", make_form<NormalForm::kNfkd>},
    {"Lowercase", make<Lowercase>},
    {"Strip", make<Strip>},
    {"StripAccents", make<StripAccents>},
    {"Replace", make<Replace>},
    {"Prepend", make<Prepend>},
    {"BertNormalizer", make<BertNormalizer>},
    {"Nmt", make<Nmt>},
    {"Precompiled", make<Precompiled>},
    {"ByteLevel", make<ByteLevel>},
    {"Sequence", make<Sequence>},
};

}  // namespace

std::unique_ptr<Normalizer> make_normalizer(const Node& node) {
  if (node.is_null()) return nullptr;
  const std::string type = node.type();
  for (const Kind& kind : kKinds) {
    if (kind.name == type) return kind.make(node);
  }
  fail(Code::kUnimplemented,
       "[tokenizer] {}: expected a normalizer that hob knows, file has \"{}\"", node.path(), type);
}

std::string byte_characters(std::string_view text) {
  static const std::array<std::string, 256> kCharacters = [] {
    std::array<std::string, 256> all;
    for (int byte = 0; byte < 256; ++byte)
      append_utf8(byte_to_code_point(static_cast<uint8_t>(byte)), all[static_cast<size_t>(byte)]);
    return all;
  }();
  std::string out;
  for (const char c : without_carried_bytes(text)) out += kCharacters[static_cast<uint8_t>(c)];
  return out;
}

Pattern::Pattern(const Node& owner) {
  const std::optional<Node> node = owner.find("pattern");
  if (!node) owner.refuse("a \"pattern\"");
  if (node->value().is_string()) {
    literal_ = node->value().get<std::string>();
  } else if (const auto text = node->find_string("String")) {
    literal_ = *text;
  } else {
    regex_ = std::make_unique<Regex>(node->string("Regex"), node->path());
  }
}

std::vector<Match> Pattern::find_all(std::string_view text, const WorkBudget& budget) const {
  if (regex_) return regex_->find_all(text, budget);
  std::vector<Match> matches;
  if (literal_.empty()) return matches;
  for (size_t i = text.find(literal_); i != std::string_view::npos;
       i = text.find(literal_, matches.back().end))
    matches.push_back({i, i + literal_.size()});
  return matches;
}

}  // namespace hob::hf
