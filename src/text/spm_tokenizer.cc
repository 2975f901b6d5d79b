#include "text/spm_tokenizer.h"

#include <algorithm>

#include "text/unicode.h"
#include "text/word_cache.h"

namespace hob {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581

std::string with_visible_spaces(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 2);
  for (const char c : text) {
    if (c == ' ') {
      out += kSpace;
    } else {
      out.push_back(c);
    }
  }
  return out;
}

// Bytes of the character at the start of `text`. A byte that is no UTF-8 stands alone: were the
// bytes taken that it announces (as llama.cpp does), it could tear a U+2581 behind it into bytes,
// and a space would not come back.
size_t character_size(std::string_view text) {
  return static_cast<size_t>(std::max(1, utf8_sequence_length(text.substr(0, 4))));
}

// The code point of one character; for broken ones a value that no valid character has.
uint32_t character_key(std::string_view character) {
  uint32_t key = 0;
  for (const char c : character) key = (key << 8) | static_cast<uint8_t>(c);
  return key;
}

Vocabulary read_vocabulary(const Metadata& metadata) {
  return Vocabulary::from_gguf(metadata, {.bos = 1, .eos = 2, .unknown = 0, .add_bos = true});
}

}  // namespace

SpmTokenizer::SpmTokenizer(const Metadata& metadata)
    : BaseTokenizer(read_vocabulary(metadata),
                    metadata.find_bool("tokenizer.ggml.add_space_prefix").value_or(true)) {
  for (TokenId id = 0; id < n_vocab(); ++id) {
    const std::string_view text = vocabulary().text(id);
    uint32_t previous = 0;
    for (size_t i = 0; i < text.size();) {
      const std::string_view character = text.substr(i, character_size(text.substr(i)));
      if (i > 0 && character == kSpace) joins_space_.insert(previous);
      previous = character_key(character);
      i += character.size();
    }
  }
}

void SpmTokenizer::encode_plain(std::string_view text, std::vector<TokenId>& out) const {
  const std::string visible = with_visible_spaces(text);
  const std::string_view all = visible;
  WordCache cache;
  MergeQueue queue;
  const auto encode = [&](std::string_view word, std::vector<TokenId>& ids) {
    encode_word(word, queue, ids);
  };
  size_t begin = 0;
  uint32_t previous = 0;
  for (size_t i = 0; i < all.size();) {
    const std::string_view character = all.substr(i, character_size(all.substr(i)));
    if (i > begin && character == kSpace && !joins_space_.contains(previous)) {
      cache.append(all.substr(begin, i - begin), out, encode);
      begin = i;
    }
    previous = character_key(character);
    i += character.size();
  }
  if (begin < all.size()) cache.append(all.substr(begin), out, encode);
}

void SpmTokenizer::encode_word(std::string_view word, MergeQueue& queue,
                               std::vector<TokenId>& out) const {
  queue.clear();
  for (size_t i = 0; i < word.size();) {
    const std::string_view character = word.substr(i, character_size(word.substr(i)));
    queue.add(static_cast<uint32_t>(i), static_cast<uint32_t>(character.size()),
              vocabulary().find_ordinary(character));
    i += character.size();
  }
  queue.run([&](const MergeSymbol& left, const MergeSymbol& right, MergeCandidate& candidate) {
    candidate.id = vocabulary().find_ordinary(word.substr(left.begin, left.size + right.size));
    if (candidate.id < 0) return false;
    candidate.order = -static_cast<double>(vocabulary().score(candidate.id));
    return true;
  });
  for (const MergeSymbol& symbol : queue.symbols()) {
    if (symbol.size == 0) continue;
    if (symbol.id >= 0) {
      out.push_back(symbol.id);
    } else {
      append_bytes(word.substr(symbol.begin, symbol.size), out);
    }
  }
}

void SpmTokenizer::append_bytes(std::string_view bytes, std::vector<TokenId>& out) const {
  for (const char c : bytes) {
    TokenId id = vocabulary().byte_token(static_cast<uint8_t>(c));
    if (id < 0) id = vocabulary().find_ordinary(std::string_view(&c, 1));
    if (id >= 0) {
      out.push_back(id);
    } else if (vocabulary().unknown() >= 0) {
      // A vocabulary without byte tokens: one unknown token for the character, as SentencePiece
      // does.
      out.push_back(vocabulary().unknown());
      return;
    }
  }
}

std::string SpmTokenizer::normal_piece(std::string_view text) const {
  std::string out;
  size_t begin = 0;
  for (size_t i = text.find(kSpace); i != std::string_view::npos; i = text.find(kSpace, begin)) {
    out.append(text.substr(begin, i - begin));
    out.push_back(' ');
    begin = i + kSpace.size();
  }
  return out.append(text.substr(begin));
}

}  // namespace hob
