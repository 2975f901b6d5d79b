#pragma once
#include <unordered_set>

#include "text/base_tokenizer.h"
#include "text/merge_queue.h"

namespace hob {

// SentencePiece's BPE as `tokenizer.ggml.model = llama` stores it: spaces become U+2581, the
// adjacent pair whose joined text has the highest score merges first, what is in no token falls
// back to byte tokens. Ref: serving §3.3.
class SpmTokenizer final : public BaseTokenizer {
 public:
  explicit SpmTokenizer(const Metadata& metadata);

 protected:
  void encode_plain(std::string_view text, std::vector<TokenId>& out) const override;
  std::string normal_piece(std::string_view text) const override;

 private:
  void encode_word(std::string_view word, MergeQueue& queue, std::vector<TokenId>& out) const;
  void append_bytes(std::string_view bytes, std::vector<TokenId>& out) const;

  // Code points that stand directly before U+2581 inside some token. Between any other character
  // and U+2581 no merge can ever happen, so there the text may be cut into words without changing
  // the result.
  std::unordered_set<uint32_t> joins_space_;
};

}  // namespace hob
