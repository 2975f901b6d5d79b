#pragma once
#include <unordered_map>

#include "text/hf/added_tokens.h"
#include "text/hf/decoder.h"
#include "text/hf/model.h"
#include "text/hf/pre_tokenizer.h"
#include "text/hf/token_list.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace hob::hf {

// A tokenizer.json, step by step as it says: added tokens, normaliser, pre-tokenizer, model, and
// the decoder back. Immutable after construction: any thread.
class PipelineTokenizer final : public Tokenizer {
 public:
  // `json` is the text of tokenizer.json. `metadata` gives what that file does not say: ids of the
  // special tokens, add_bos_token and add_eos_token, and how many tokens there are at least
  // (tokenizer.ggml.tokens).
  PipelineTokenizer(std::string_view json, const Metadata& metadata);

  PipelineTokenizer(const PipelineTokenizer&) = delete;
  PipelineTokenizer& operator=(const PipelineTokenizer&) = delete;

  std::vector<TokenId> encode_parts(std::span<const TextPart> parts,
                                    bool add_special) const override;
  std::string piece(TokenId id, bool special) const override;
  std::string decode(std::span<const TokenId> ids, bool special) const override;

  int n_vocab() const override { return vocabulary_.size(); }
  TokenId bos() const override { return vocabulary_.bos(); }
  TokenId eos() const override { return vocabulary_.eos(); }
  bool adds_bos() const override { return vocabulary_.add_bos(); }
  bool is_end(TokenId id) const override { return vocabulary_.is_end(id); }
  bool is_control(TokenId id) const override {
    return vocabulary_.contains(id) && vocabulary_.type(id) == TokenType::kControl;
  }
  TokenId find(std::string_view text) const override { return vocabulary_.find(text); }

 private:
  struct Parsed;  // the file, while it is read
  explicit PipelineTokenizer(Parsed parsed);

  std::string piece_at(TokenId id, bool special, bool first) const;
  void encode_section(Stretch stretch, const PartMap& parts, const WorkBudget& budget,
                      std::vector<TokenId>& out) const;
  void encode_words(const std::vector<Stretch>& words, std::vector<TokenId>& out) const;
  bool later_sections_get_a_prefix() const;

  Vocabulary vocabulary_;
  ModelTokens tokens_;
  std::unique_ptr<Normalizer> normalizer_;
  std::unique_ptr<PreTokenizer> pre_tokenizer_;
  std::unique_ptr<Model> model_;
  AddedTokens added_;
  std::vector<bool> is_added_;
  std::unordered_map<TokenId, std::string> other_texts_;  // of normalized added tokens
  Frame frame_;
  Decoder decoder_;
  bool prefix_everywhere_ = false;  // a space is put behind every added token
};

}  // namespace hob::hf
