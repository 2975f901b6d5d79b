#include <algorithm>

#include "base/error.h"
#include "text/hf/model.h"
#include "text/hf/raw_bytes.h"

namespace hob::hf {
namespace {

// The longest token first, again and again; a word that does not come out even is unknown.
class WordPieceModel final : public Model {
 public:
  WordPieceModel(const Node& node, const ModelTokens& tokens)
      : tokens_(tokens),
        prefix_(node.find_string("continuing_subword_prefix").value_or("##")),
        max_characters_(
            static_cast<size_t>(node.find("max_input_chars_per_word")
                                    ? node.integer("max_input_chars_per_word", 0, 1 << 16)
                                    : 100)) {
    const std::string unknown = node.find_string("unk_token").value_or("[UNK]");
    unknown_ = tokens_.vocabulary().find(unknown);
    if (unknown_ < 0) {
      fail(Code::kDataLoss,
           "[tokenizer] {}.unk_token: expected a token of the vocabulary, \"{}\" is none",
           node.path(), unknown.substr(0, 60));
    }
    for (TokenId id = 0; id < tokens_.vocabulary().size(); ++id)
      longest_ = std::max(longest_, tokens_.vocabulary().text(id).size());
    // A search at every byte costs the square of it.
    longest_ = std::min<size_t>(longest_, 1024);
  }

  void encode(std::string_view word, std::vector<TokenId>& out) const override {
    const auto starts = [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; };
    const auto n_characters = static_cast<size_t>(std::count_if(word.begin(), word.end(), starts));
    const size_t before = out.size();
    bool covered = n_characters <= max_characters_;
    for (size_t begin = 0; covered && begin < word.size();) {
      const auto [end, id] = longest_at(word, begin);
      covered = id >= 0;
      if (covered) out.push_back(id);
      begin = end;
    }
    if (covered) return;
    out.resize(before);
    out.push_back(unknown_);
  }

 private:
  struct Found {
    size_t end;
    TokenId id;
  };
  Found longest_at(std::string_view word, size_t begin) const {
    std::string text = begin > 0 ? prefix_ : "";
    const size_t n_prefix = text.size();
    text.append(word.substr(begin, longest_));
    size_t end = begin + std::min(word.size() - begin, longest_);
    while (end > begin) {
      text.resize(n_prefix + end - begin);
      if (const TokenId id = tokens_.find(text); id >= 0) return {end, id};
      end = previous_character(word, end);
    }
    return {begin, -1};
  }

  const ModelTokens& tokens_;
  std::string prefix_;
  size_t max_characters_;
  size_t longest_ = 0;
  TokenId unknown_ = -1;
};

}  // namespace

std::unique_ptr<Model> make_wordpiece(const Node& node, const ModelTokens& tokens) {
  return std::make_unique<WordPieceModel>(node, tokens);
}

}  // namespace hob::hf
