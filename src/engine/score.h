#pragma once
// Numbers about next-token distributions: perplexity, KL divergence, agreement. And the file that
// keeps logits for a later comparison.
#include <cstdint>
#include <fstream>
#include <span>
#include <string>
#include <vector>

namespace hob {

// log softmax(logits)[token], summed in f64.
double log_prob(std::span<const float> logits, int32_t token);
// KL(softmax(base) || softmax(other)) in nats, >= 0.
double kl_divergence(std::span<const float> base, std::span<const float> other);
int32_t arg_max(std::span<const float> logits);

// Saved logits, little endian: "HOBLOGI1", u32 n_vocab, u32 n_ctx, u32 stride, u32 n_rows, u64 hash
// of the tokens; then n_rows times (i32 target token, f32 logits [n_vocab]), in the order in which
// they were scored.
struct LogitsFileHeader {
  uint32_t n_vocab = 0, n_ctx = 0, stride = 0, n_rows = 0;
  uint64_t token_hash = 0;
  bool operator==(const LogitsFileHeader&) const = default;
};

// Throws Error(kIo) when the disk is full; finish() must be called for that to be certain.
class LogitsWriter {
 public:
  LogitsWriter(const std::string& path, const LogitsFileHeader& header);
  void add(int32_t target, std::span<const float> logits);
  void finish();

 private:
  std::string path_;
  std::ofstream out_;
};

class LogitsReader {
 public:
  // Throws Error when the file is none of these or was made from other tokens, windows or another
  // vocabulary.
  LogitsReader(const std::string& path, const LogitsFileHeader& expected);
  // The next row; valid until the next call.
  std::span<const float> next(int32_t expected_target);

 private:
  std::string path_;
  std::ifstream in_;
  std::vector<float> row_;
};

uint64_t hash_tokens(std::span<const int32_t> tokens);  // FNV-1a over the ids

}  // namespace hob
