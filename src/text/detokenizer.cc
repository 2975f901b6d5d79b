#include "text/tokenizer.h"
#include "text/unicode.h"

namespace hob {
namespace {

// Moves what is complete from `bytes` to the result; broken bytes become U+FFFD. What stays is the
// valid beginning of a character (at most 3 bytes).
std::string take_complete(std::string& bytes) {
  std::string out;
  size_t i = 0;
  while (i < bytes.size()) {
    const int length = utf8_sequence_length(std::string_view(bytes).substr(i, 4));
    if (length < 0) break;
    if (length == 0) {
      out += kReplacementUtf8;
      ++i;
    } else {
      out.append(bytes, i, static_cast<size_t>(length));
      i += static_cast<size_t>(length);
    }
  }
  bytes.erase(0, i);
  return out;
}

}  // namespace

std::string Detokenizer::push(TokenId id) {
  if (first_) {
    // decode() knows whether this family's first text loses its space; control tokens are no text.
    pending_ += tokenizer_->decode({&id, 1}, special_);
    first_ = tokenizer_->piece(id, special_).empty();
  } else {
    pending_ += tokenizer_->piece(id, special_);
  }
  return take_complete(pending_);
}

std::string Detokenizer::finish() {
  std::string out = take_complete(pending_);
  if (!pending_.empty()) out += kReplacementUtf8;
  pending_.clear();
  return out;
}

}  // namespace hob
