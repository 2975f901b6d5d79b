#pragma once
// Errors, by who is at fault (docs/adr/0001):
//   the outside world (files, flags, config, requests)  -> throw hob::Error, caught at the
//   boundary; capacity (no slot, no block, queue full)             -> a return value, a normal
//   branch; our own bug                                          -> HOB_CHECK: print and abort.
#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace hob {

enum class Code {
  kInvalidArgument,    // the caller asked for something impossible
  kNotFound,           // a named thing does not exist
  kUnimplemented,      // valid, but hob does not support it (the message names it)
  kDataLoss,           // a file contradicts itself or is truncated
  kIo,                 // the operating system refused a read, a write, a thread
  kResourceExhausted,  // the memory budget is too small
  kCancelled,
  kInternal,
};

// Message form: `[where] expectation, fact`, e.g. `[gguf] blk.3.ffn_up.weight: expected [64,1408],
// file has [60,1408]`.
class Error : public std::runtime_error {
 public:
  Error(Code code, const std::string& message) : std::runtime_error(message), code_(code) {}
  Code code() const { return code_; }

 private:
  Code code_;
};

template <class... Args>
[[noreturn]] void fail(Code code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

[[noreturn]] void check_failed(const char* file, int line, const char* expression);

}  // namespace hob

// Always on: guards memory safety and invariants whose breach is a bug of ours.
#define HOB_CHECK(expression) \
  ((expression) ? static_cast<void>(0) : ::hob::check_failed(__FILE__, __LINE__, #expression))
