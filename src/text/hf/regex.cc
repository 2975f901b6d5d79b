#include "text/hf/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>

#include "base/error.h"

namespace hob::hf {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMaxPatternBytes = 32 << 10;  // the longest published ones have some 3 KB
constexpr uint32_t kMaxHeapKib = 64 << 10;     // backtracking of one match
// Steps of one match. A match may well look at every character of a text a few times.
constexpr uint32_t kLeastSteps = 1 << 20;
// Start positions per call into the library: the clock is looked at between calls only.
constexpr size_t kMaxWindow = 256;
constexpr Clock::duration kSlowCall = std::chrono::milliseconds(1);
// An ordinary pattern does more than 5 MB a second.
constexpr Clock::duration kLeastTime = std::chrono::seconds(2);
constexpr Clock::duration kTimePerByte = std::chrono::microseconds(2);
// Compatibility forms make up to 11 bytes of one (U+FDFA).
constexpr size_t kMaxGrowth = 32;
constexpr size_t kLeastGrowth = 1 << 20;

bool starts_character(std::string_view text, size_t i) {
  return i >= text.size() || (static_cast<uint8_t>(text[i]) & 0xC0) != 0x80;
}

size_t next_character(std::string_view text, size_t i) {
  do {
    ++i;
  } while (!starts_character(text, i));
  return i;
}

struct FreeMatchData {
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
};
struct FreeMatchContext {
  void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
};

// One walk over a text.
class Search {
 public:
  Search(const pcre2_code* code, const std::string& where, std::string_view text,
         const WorkBudget& budget)
      : code_(code),
        where_(where),
        text_(text),
        budget_(budget),
        data_(pcre2_match_data_create(1, nullptr)),
        context_(pcre2_match_context_create(nullptr)) {
    if (!data_ || !context_) fail(Code::kResourceExhausted, "[tokenizer] {}: no memory", where_);
    const size_t steps = std::min<size_t>(4 * text.size(), UINT32_MAX / 2);
    pcre2_set_match_limit(context_.get(), std::max(kLeastSteps, static_cast<uint32_t>(steps)));
    pcre2_set_heap_limit(context_.get(), kMaxHeapKib);
  }

  // The first match that begins at `from` or behind it.
  bool next(size_t from, Match& match) {
    while (from <= text_.size()) {
      if (++n_calls_ % 64 == 0) look_at_clock();
      // Patterns nearly always match where they are tried, so the first try is there alone.
      size_t last = std::min(from + window_, text_.size());
      while (!starts_character(text_, last)) --last;
      if (try_window(from, last, match)) {
        window_ = 0;
        return true;
      }
      const bool slow = look_at_clock() > kSlowCall;
      window_ = slow ? 0 : std::min(window_ * 2 + 1, kMaxWindow);
      from = next_character(text_, last);
    }
    return false;
  }

  void finish() { look_at_clock(); }

 private:
  Clock::duration look_at_clock() {
    const Clock::time_point now = Clock::now();
    const Clock::duration passed = now - last_look_;
    last_look_ = now;
    budget_.spend(passed);
    return passed;
  }
  bool try_window(size_t from, size_t last, Match& match) {
    pcre2_set_offset_limit(context_.get(), last);
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text_.data());
    const int rc = pcre2_match(code_, subject, text_.size(), from, PCRE2_NO_UTF_CHECK, data_.get(),
                               context_.get());
    if (rc == PCRE2_ERROR_NOMATCH) return false;
    if (rc < 0) refuse(rc);
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data_.get());
    match = {ends[0], ends[1]};
    return true;
  }
  [[noreturn]] void refuse(int rc) const {
    PCRE2_UCHAR message[120] = {};
    pcre2_get_error_message(rc, message, sizeof message);
    fail(Code::kResourceExhausted,
         "[tokenizer] {}: expected a regular expression that copes with this text, got \"{}\"",
         where_, reinterpret_cast<const char*>(message));
  }

  const pcre2_code* code_;
  const std::string& where_;
  std::string_view text_;
  const WorkBudget& budget_;
  std::unique_ptr<pcre2_match_data, FreeMatchData> data_;
  std::unique_ptr<pcre2_match_context, FreeMatchContext> context_;
  Clock::time_point last_look_ = Clock::now();
  size_t n_calls_ = 0, window_ = 0;
};

}  // namespace

WorkBudget::WorkBudget(size_t n_text_bytes)
    : left_(kLeastTime + kTimePerByte * n_text_bytes),
      max_bytes_(kLeastGrowth + n_text_bytes * kMaxGrowth) {}

void WorkBudget::spend(Clock::duration time) const {
  left_ -= time;
  if (left_ >= Clock::duration::zero()) return;
  fail(Code::kResourceExhausted,
       "[tokenizer] expected regular expressions that cope with this text in time, they do not");
}

void WorkBudget::check_size(size_t n_bytes) const {
  if (n_bytes <= max_bytes_) return;
  fail(Code::kResourceExhausted,
       "[tokenizer] expected at most {} bytes of normalized text, the file's rules make more",
       max_bytes_);
}

struct Regex::Compiled {
  ~Compiled() { pcre2_code_free(code); }
  pcre2_code* code = nullptr;
  std::string where;
};

Regex::Regex(std::string_view pattern, const std::string& where)
    : compiled_(std::make_unique<Compiled>()) {
  compiled_->where = where;
  if (pattern.size() > kMaxPatternBytes) {
    fail(Code::kDataLoss, "[tokenizer] {}: expected a pattern of at most {} bytes, file has {}",
         where, kMaxPatternBytes, pattern.size());
  }
  const std::string ours = translate_regex(pattern, where);
  // Multi-line: ^ and $ mean lines in Ruby's syntax. No start optimisation: it would look for a
  // byte through the whole text again and again.
  constexpr uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_USE_OFFSET_LIMIT |
                                PCRE2_NO_START_OPTIMIZE | PCRE2_NEVER_BACKSLASH_C;
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
  if (context == nullptr) fail(Code::kResourceExhausted, "[tokenizer] {}: no memory", where);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE position = 0;
  compiled_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(ours.data()), ours.size(), kOptions,
                                  &error, &position, context.get());
  if (compiled_->code == nullptr) {
    PCRE2_UCHAR message[120] = {};
    pcre2_get_error_message(error, message, sizeof message);
    fail(Code::kUnimplemented,
         "[tokenizer] {}: expected a regular expression, file has one with {}", where,
         reinterpret_cast<const char*>(message));
  }
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;

std::vector<Match> Regex::find_all(std::string_view text, const WorkBudget& budget) const {
  std::vector<Match> matches;
  if (text.empty()) return matches;
  Search search(compiled_->code, compiled_->where, text, budget);
  Match match{};
  for (size_t from = 0; from <= text.size() && search.next(from, match);) {
    // \K and look-behind cannot put a match before where the search began: \K is refused.
    const bool empty = match.begin == match.end;
    if (empty && !matches.empty() && matches.back().end == match.end) {
      from = next_character(text, match.end);
      continue;
    }
    matches.push_back(match);
    from = match.end;
  }
  search.finish();
  return matches;
}

}  // namespace hob::hf
