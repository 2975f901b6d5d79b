#pragma once
#include <array>

#include "text/base_tokenizer.h"
#include "text/merge_queue.h"
#include "text/merge_table.h"
#include "text/pretokenizer.h"

namespace hob {

// GPT-2's byte-level BPE (`tokenizer.ggml.model = gpt2`): the text is cut into words, a word's
// bytes are written as 256 printable characters, and pairs merge in the order of the file's merge
// list. Ref: serving §3.3.
class BpeTokenizer final : public BaseTokenizer {
 public:
  explicit BpeTokenizer(const Metadata& metadata);

 protected:
  void encode_plain(std::string_view text, std::vector<TokenId>& out) const override;
  std::string normal_piece(std::string_view text) const override;

 private:
  BpeTokenizer(const Metadata& metadata, const PreTokenizer& pretokenizer);
  void encode_word(std::string_view word, MergeQueue& queue, std::vector<TokenId>& out) const;

  const PreTokenizer* pretokenizer_;
  MergeTable merges_;
  std::array<int32_t, 256> byte_symbol_;  // symbol number of each byte's character
};

// The character that stands for a byte in a byte-level vocabulary, and back (-1: the code point
// stands for none).
uint32_t byte_to_code_point(uint8_t byte);
int code_point_to_byte(uint32_t code_point);

}  // namespace hob
