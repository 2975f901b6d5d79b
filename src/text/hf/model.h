#pragma once
// The models of tokenizer.json: the ids of one word.
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/hf/json.h"
#include "text/vocabulary.h"

namespace hob::hf {

// The tokens that a model may make of ordinary text: what its own list holds, less control, unknown
// and byte tokens. So no text can be merged into "</s>".
class ModelTokens {
 public:
  // `own`: by id, is the token in the model's own list (and not only an added one)?
  ModelTokens(const Vocabulary& vocabulary, std::vector<bool> own)
      : vocabulary_(&vocabulary), own_(std::move(own)) {}

  const Vocabulary& vocabulary() const { return *vocabulary_; }
  TokenId find(std::string_view text) const {
    const TokenId id = vocabulary_->find_ordinary(text);
    return id >= 0 && own_[static_cast<size_t>(id)] ? id : -1;
  }
  // Any token of the model's own list.
  TokenId find_own(std::string_view text) const {
    const TokenId id = vocabulary_->find(text);
    return id >= 0 && own_[static_cast<size_t>(id)] ? id : -1;
  }
  // The token <0xHH>, -1 when there is none.
  TokenId byte_token(uint8_t byte) const;

 private:
  const Vocabulary* vocabulary_;
  std::vector<bool> own_;
};

// Immutable after construction: any thread.
class Model {
 public:
  virtual ~Model() = default;
  // Appends the ids of `word`: valid UTF-8, with carried bytes.
  virtual void encode(std::string_view word, std::vector<TokenId>& out) const = 0;
};

// `node` is "model". `tokens` must outlive the result. Throws on an unknown kind.
std::unique_ptr<Model> make_model(const Node& node, const ModelTokens& tokens);

std::unique_ptr<Model> make_bpe(const Node& node, const ModelTokens& tokens);
std::unique_ptr<Model> make_unigram(const Node& node, const ModelTokens& tokens);
std::unique_ptr<Model> make_wordpiece(const Node& node, const ModelTokens& tokens);

enum class ModelKind { kBpe, kUnigram, kWordPiece };
// "type"; files from before that key existed are told by what they hold.
ModelKind model_kind(const Node& node);

// Where a BPE merge's parts are: "a b" or ["a", "b"].
std::pair<std::string, std::string> merge_parts(const Node& merge);

// The byte tokens of `text`, or false when the vocabulary lacks one of them.
bool append_byte_tokens(const ModelTokens& tokens, std::string_view text,
                        std::vector<TokenId>& out);

}  // namespace hob::hf
