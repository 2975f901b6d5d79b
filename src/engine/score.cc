#include "engine/score.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "sampling/logprobs.h"

namespace hob {
namespace {

constexpr char kMagic[8] = {'H', 'O', 'B', 'L', 'O', 'G', 'I', '1'};

}  // namespace

double log_prob(std::span<const float> logits, int32_t token) {
  HOB_CHECK(token >= 0 && static_cast<size_t>(token) < logits.size());
  return logits[static_cast<size_t>(token)] - log_sum_exp(logits);
}

double kl_divergence(std::span<const float> base, std::span<const float> other) {
  HOB_CHECK(base.size() == other.size());
  const double base_total = log_sum_exp(base), other_total = log_sum_exp(other);
  double kl = 0;
  for (size_t i = 0; i < base.size(); i++) {
    const double log_p = base[i] - base_total;
    kl += std::exp(log_p) * (log_p - (other[i] - other_total));
  }
  return std::max(kl, 0.0);  // rounding may give -1e-17 for equal distributions
}

int32_t arg_max(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

uint64_t hash_tokens(std::span<const int32_t> tokens) {
  uint64_t hash = 0xcbf29ce484222325;
  for (int32_t t : tokens) hash = (hash ^ static_cast<uint32_t>(t)) * 0x100000001b3;
  return hash;
}

LogitsWriter::LogitsWriter(const std::string& path, const LogitsFileHeader& header)
    : path_(path), out_(path, std::ios::binary | std::ios::trunc) {
  if (!out_) fail(Code::kIo, "[logits] expected a file to write, cannot create {}", path);
  out_.write(kMagic, sizeof kMagic);
  out_.write(reinterpret_cast<const char*>(&header), sizeof header);
}

void LogitsWriter::add(int32_t target, std::span<const float> logits) {
  out_.write(reinterpret_cast<const char*>(&target), sizeof target);
  out_.write(reinterpret_cast<const char*>(logits.data()),
             static_cast<std::streamsize>(logits.size_bytes()));
  if (!out_)
    fail(Code::kIo, "[logits] expected to write {} more bytes to {}, the system refused",
         logits.size_bytes(), path_);
}

void LogitsWriter::finish() {
  out_.close();
  if (!out_) fail(Code::kIo, "[logits] expected to finish {}, the system refused", path_);
}

LogitsReader::LogitsReader(const std::string& path, const LogitsFileHeader& expected)
    : path_(path), in_(path, std::ios::binary), row_(expected.n_vocab) {
  if (!in_) fail(Code::kNotFound, "[logits] expected a readable file, cannot open {}", path);
  char magic[8] = {};
  LogitsFileHeader header;
  in_.read(magic, sizeof magic);
  in_.read(reinterpret_cast<char*>(&header), sizeof header);
  if (!in_ || std::memcmp(magic, kMagic, sizeof magic) != 0)
    fail(Code::kDataLoss, "[logits] expected a file written by --save-logits, {} is none", path);
  if (header != expected)
    fail(Code::kInvalidArgument,
         "[logits] {}: expected the same text, --ctx and --stride (vocabulary {}, ctx {}, stride "
         "{}, {} rows, text {:x}), "
         "file has {}, {}, {}, {}, {:x}",
         path, expected.n_vocab, expected.n_ctx, expected.stride, expected.n_rows,
         expected.token_hash, header.n_vocab, header.n_ctx, header.stride, header.n_rows,
         header.token_hash);
}

std::span<const float> LogitsReader::next(int32_t expected_target) {
  int32_t target = -1;
  in_.read(reinterpret_cast<char*>(&target), sizeof target);
  in_.read(reinterpret_cast<char*>(row_.data()),
           static_cast<std::streamsize>(row_.size() * sizeof(float)));
  if (!in_) fail(Code::kDataLoss, "[logits] expected more rows, {} ends too early", path_);
  if (target != expected_target)
    fail(Code::kDataLoss, "[logits] {}: expected target token {}, file has {}", path_,
         expected_target, target);
  return row_;
}

}  // namespace hob
