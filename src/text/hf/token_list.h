#pragma once
// The tokens of a tokenizer.json by id: the model's own and the added ones.
#include <cstdint>
#include <string>
#include <vector>

#include "text/hf/added_tokens.h"
#include "text/hf/json.h"
#include "text/hf/model.h"
#include "text/vocabulary.h"

namespace hob::hf {

struct TokenList {
  std::vector<std::string> texts;
  std::vector<TokenType> types;
  std::vector<double> scores;  // Unigram's; empty otherwise
  std::vector<bool> own;       // in the model's own list
};

// `n_least`: the list is filled up to so many, for a model with more rows than its tokenizer has
// tokens. Throws on tokens that share an id or a text.
TokenList read_token_list(const Node& root, const std::vector<AddedToken>& added, size_t n_least);

// Byte-level: words are written in the 256 byte characters.
bool is_byte_level(const Node& root);
// The text of the model's unknown token, "" when there is none.
std::string unknown_text(const Node& root);

// Ids around a text: what "post_processor" puts there.
struct Frame {
  std::vector<TokenId> before;
  std::vector<TokenId> after;
};
Frame read_frame(const Node& root, size_t n_vocab);

}  // namespace hob::hf
