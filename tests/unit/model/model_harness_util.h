#pragma once
// A model with everything it needs to be evaluated: file, backend, weights, KV, experts. Takes a
// backend factory, so that the same tests run over every backend.
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "format/gguf.h"
#include "model/decoder.h"

namespace hob {

using BackendFactory = std::function<std::unique_ptr<Backend>()>;

struct HarnessOptions {
  int max_rows = 64;
  int n_ctx = 128;
  KvType kv_type = KvType::kF32;
  uint64_t expert_budget_bytes = 0;  // 0: all experts; 1: the smallest budget that works (one slot)
};

// How the harness and the checks open a model; open_gguf() where nobody says otherwise.
using ModelOpener = ModelFile (*)(const std::string& path);
void set_model_opener(ModelOpener opener);
ModelFile open_test_model(const std::string& path);

class ModelHarness {
 public:
  ModelHarness(const std::string& path, const BackendFactory& backend, HarnessOptions options = {});

  using Tokens = std::vector<int32_t>;
  using Logits = std::vector<float>;  // [n_tokens, n_vocab]

  // All positions of one sequence, prefilled `chunk` tokens per step (0 = in one step).
  Logits evaluate(const Tokens& tokens, int chunk = 0);
  // Several sequences; every step holds the next `chunk` tokens of each that is not done.
  std::vector<Logits> evaluate_together(const std::vector<Tokens>& sequences, int chunk);
  // One step with logits at the last position only.
  Logits evaluate_last(const Tokens& tokens);

  const ModelLayout& layout() const { return layout_; }
  Backend& backend() { return *backend_; }
  Decoder& decoder() { return *decoder_; }
  ExpertCache* experts() { return experts_.get(); }
  KvStore& kv() { return kv_; }
  int n_vocab() const { return layout_.spec.n_vocab; }

  // Adds rows for the next tokens of `seq` (slots reserved, to be committed by the caller).
  void append_rows(StepBatch& batch, SeqId seq, std::span<const int32_t> tokens, bool want_logits);

 private:
  std::unique_ptr<Backend> backend_;
  ModelFile file_;
  ModelLayout layout_;
  KvStore kv_;
  std::unique_ptr<ExpertCache> experts_;
  std::unique_ptr<Decoder> decoder_;
};

// `dir`/NAME.{tokens,f32} beside NAME.gguf. Ref: the fixtures' README; bars of the two kinds of
// files.
struct LogitsFixture {
  std::vector<int32_t> tokens;
  std::vector<float> logits;
};
LogitsFixture read_logits_fixture(const std::string& path_without_suffix);

struct LogitsDifference {
  double max_abs = 0;
  double mean_kl = 0;      // KL(expected || actual) per position, nats
  double same_argmax = 0;  // share of positions
};
LogitsDifference compare_logits(std::span<const float> expected, std::span<const float> actual,
                                int n_vocab);

}  // namespace hob
