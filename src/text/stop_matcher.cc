#include "text/stop_matcher.h"

#include <algorithm>

namespace hob {
namespace {

// Knuth, Morris, Pratt: where to go on when the character behind the first i does not match.
std::vector<size_t> fallbacks(const std::string& text) {
  std::vector<size_t> out(text.size() + 1, 0);
  for (size_t i = 1, n = 0; i < text.size(); i++) {
    while (n > 0 && text[i] != text[n]) n = out[n];
    if (text[i] == text[n]) n++;
    out[i + 1] = n;
  }
  return out;
}

bool continues_character(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

}  // namespace

StopMatcher::StopMatcher(const std::vector<std::string>& stops, bool include_stop)
    : include_stop_(include_stop) {
  for (const std::string& s : stops)
    if (!s.empty()) patterns_.push_back({.text = s, .fallback = fallbacks(s)});
}

// The longest stop string that ends with `c`, if any does.
const StopMatcher::Pattern* StopMatcher::advance(char c) {
  const Pattern* found = nullptr;
  for (Pattern& p : patterns_) {
    if (p.n_matched == p.text.size()) p.n_matched = p.fallback[p.n_matched];
    while (p.n_matched > 0 && p.text[p.n_matched] != c) p.n_matched = p.fallback[p.n_matched];
    if (p.text[p.n_matched] == c) p.n_matched++;
    if (p.n_matched == p.text.size() && (!found || p.text.size() > found->text.size())) found = &p;
  }
  return found;
}

std::string StopMatcher::release(size_t n_bytes) {
  std::string out = held_.substr(0, n_bytes);
  held_.erase(0, n_bytes);
  return out;
}

std::string StopMatcher::push(std::string_view text, bool may_stop) {
  if (stopped_) return {};
  for (char c : text) {
    held_ += c;
    const Pattern* found = advance(c);
    if (!found || !may_stop) continue;
    stopped_ = true;
    matched_ = found->text;
    const size_t n = held_.size() - (include_stop_ ? 0 : matched_.size());
    std::string out = release(n);
    held_.clear();
    return out;
  }
  size_t n_open = 0;  // of the end, what may become a stop string
  for (const Pattern& p : patterns_) {
    const bool whole = p.n_matched == p.text.size();
    n_open = std::max(n_open, whole ? p.fallback[p.n_matched] : p.n_matched);
  }
  size_t n = held_.size() - n_open;
  while (n > 0 && n < held_.size() && continues_character(held_[n])) n--;
  return release(n);
}

std::string StopMatcher::finish() { return release(held_.size()); }

}  // namespace hob
