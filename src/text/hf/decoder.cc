#include "text/hf/decoder.h"

#include "base/error.h"
#include "text/bpe_tokenizer.h"
#include "text/hf/raw_bytes.h"
#include "text/unicode.h"
#include "text/vocabulary.h"

namespace hob::hf {
namespace {

void replace_all(std::string& text, std::string_view what, std::string_view by) {
  std::string out;
  size_t begin = 0;
  for (size_t i = text.find(what); i != std::string::npos; i = text.find(what, begin)) {
    out.append(text, begin, i - begin).append(by);
    begin = i + what.size();
  }
  text = out.append(text, begin);
}

class ByteLevel final : public DecodeStep {
 public:
  void apply(DecodedToken& token) const override {
    if (token.is_added || token.is_bytes) return;
    std::string bytes;
    for (size_t i = 0; i < token.text.size();) {
      const int byte = code_point_to_byte(next_code_point(token.text, i));
      if (byte < 0) return;  // not written in byte characters at all
      bytes.push_back(static_cast<char>(byte));
    }
    token.text = std::move(bytes);
    token.is_bytes = true;
  }
};

class ByteFallback final : public DecodeStep {
 public:
  void apply(DecodedToken& token) const override {
    const auto byte = parse_byte_token(token.text);
    if (!byte || token.is_added) return;
    token.text.assign(1, static_cast<char>(*byte));
    token.is_bytes = true;
  }
};

class Replace final : public DecodeStep {
 public:
  explicit Replace(const Node& node) : content_(node.string("content")), pattern_(node) {}
  void apply(DecodedToken& token) const override {
    if (token.is_bytes) return;
    if (!pattern_.literal().empty()) {
      replace_all(token.text, pattern_.literal(), content_);
      return;
    }
    WorkBudget budget(token.text.size());
    std::string out;
    size_t begin = 0;
    for (const Match& match : pattern_.find_all(token.text, budget)) {
      out.append(token.text, begin, match.begin - begin).append(content_);
      begin = match.end;
    }
    token.text = out.append(token.text, begin);
  }

 private:
  std::string content_;
  Pattern pattern_;
};

// Up to `start` and `stop` times `content` at the ends: of the text where the tokens are one, of
// every token otherwise.
class Strip final : public DecodeStep {
 public:
  Strip(const Node& node, bool of_text)
      : content_(node.string("content")),
        start_(node.integer("start", 0, 1 << 20)),
        stop_(node.integer("stop", 0, 1 << 20)),
        of_text_(of_text) {
    size_t i = 0;
    if (!content_.empty()) next_code_point(content_, i);
    if (i == 0 || i != content_.size()) node.find("content")->refuse("one character");
    if (of_text && (start_ > 1 || stop_ > 0)) {
      fail(Code::kUnimplemented,
           "[tokenizer] {}: expected at most one character less in front and none at the end, file "
           "has {} and {}",
           node.path(), start_, stop_);
    }
  }
  void apply(DecodedToken& token) const override {
    if (of_text_ && !token.first) return;
    for (int64_t n = 0; n < start_ && token.text.starts_with(content_); ++n)
      token.text.erase(0, content_.size());
    for (int64_t n = 0; n < stop_ && token.text.ends_with(content_); ++n)
      token.text.resize(token.text.size() - content_.size());
  }
  bool cuts_start() const { return of_text_ && start_ > 0; }

 private:
  std::string content_;
  int64_t start_, stop_;
  bool of_text_;
};

class Metaspace final : public DecodeStep {
 public:
  explicit Metaspace(const Node& node) : mark_(node.string("replacement")) {
    const bool prefix = node.flag("add_prefix_space", true);
    strips_ = prefix && node.find_string("prepend_scheme").value_or("always") != "never";
  }
  void apply(DecodedToken& token) const override {
    if (token.is_bytes) return;
    // The mark in front of the text goes; other ones are spaces.
    if (token.first && strips_ && token.text.starts_with(mark_)) token.text.erase(0, mark_.size());
    replace_all(token.text, mark_, " ");
  }
  bool strips() const { return strips_; }

 private:
  std::string mark_;
  bool strips_;
};

// English spaces in front of punctuation and contractions go.
void clean_up(std::string& text) {
  constexpr std::string_view kPairs[][2] = {
      {" .", "."},   {" ?", "?"},     {" !", "!"},     {" ,", ","},
      {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},   {" do not", " don't"},
      {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
  };
  for (const auto& [from, to] : kPairs) replace_all(text, from, to);
}

class WordPiece final : public DecodeStep {
 public:
  explicit WordPiece(const Node& node)
      : prefix_(node.string("prefix")), cleans_(node.flag("cleanup")) {}
  void apply(DecodedToken& token) const override {
    if (!token.first) {
      if (!prefix_.empty() && token.text.starts_with(prefix_)) {
        token.text.erase(0, prefix_.size());
      } else {
        token.text.insert(token.text.begin(), ' ');
      }
    }
    if (cleans_) clean_up(token.text);
  }

 private:
  std::string prefix_;
  bool cleans_;
};

std::unique_ptr<DecodeStep> make_step(const Node& node, const std::string& type, bool fused) {
  if (type == "ByteLevel") return std::make_unique<ByteLevel>();
  if (type == "ByteFallback") return std::make_unique<ByteFallback>();
  if (type == "Replace") return std::make_unique<Replace>(node);
  if (type == "Strip") return std::make_unique<Strip>(node, fused);
  if (type == "Metaspace") return std::make_unique<Metaspace>(node);
  if (type == "WordPiece") return std::make_unique<WordPiece>(node);
  fail(Code::kUnimplemented, "[tokenizer] {}: expected a decoder that hob knows, file has \"{}\"",
       node.path(), type);
}

}  // namespace

Decoder::Decoder(const Node& node) : joins_with_spaces_(node.is_null()) {
  if (!node.is_null()) add(node);
}

void Decoder::add(const Node& node) {
  const std::string type = node.type();
  if (type == "Sequence") {
    for (size_t i = 0; i < node.list_size("decoders"); ++i) add(node.item("decoders", i));
  } else if (type == "Fuse") {
    fused_ = true;
  } else {
    if (fused_ && type != "Strip") {
      fail(Code::kUnimplemented, "[tokenizer] {}: expected only Strip behind Fuse, file has \"{}\"",
           node.path(), type);
    }
    steps_.push_back(make_step(node, type, fused_));
  }
}

std::string Decoder::decode(DecodedToken token) const {
  if (joins_with_spaces_ && !token.first) token.text.insert(token.text.begin(), ' ');
  for (const auto& step : steps_) step->apply(token);
  return std::move(token.text);
}

bool Decoder::strips_start() const {
  for (const auto& step : steps_) {
    const auto* strip = dynamic_cast<const Strip*>(step.get());
    const auto* metaspace = dynamic_cast<const Metaspace*>(step.get());
    if ((strip != nullptr && strip->cuts_start()) || (metaspace != nullptr && metaspace->strips()))
      return true;
  }
  return false;
}

}  // namespace hob::hf
