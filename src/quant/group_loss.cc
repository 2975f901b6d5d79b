#include "quant/group_loss.h"

#include <unistd.h>

#include <memory>
#include <optional>

#include "base/error.h"
#include "base/hash.h"
#include "engine/score.h"
#include "format/fingerprint.h"
#include "quant/loss_journal.h"
#include "quant/rounded_model.h"

namespace hob {
namespace {

constexpr uint64_t kMethodVersion = 1;  // one more when the same inputs give other losses

void run_window(Engine& engine, std::span<const int32_t> tokens, const LogitsSink& sink) {
  const int seq = engine.open();
  engine.feed(seq, tokens, static_cast<int>(tokens.size()) - kLossFirst);
  while (engine.step(sink)) {
  }
  const std::exception_ptr error = engine.error(seq);
  engine.close(seq);
  if (error) std::rethrow_exception(error);
}

// Gone when this ends, whatever is thrown.
struct ScratchFile {
  std::string path;
  ~ScratchFile() { ::unlink(path.c_str()); }
};

class Measurement {
 public:
  Measurement(const ModelFile& model, std::span<const TensorGroup> groups,
              const GroupLossOptions& options,
              const std::function<void(uint64_t, uint64_t)>& progress)
      : model_(model),
        groups_(groups),
        options_(options),
        progress_(progress),
        n_windows_(options.tokens.size() / kLossWindow),
        journal_(options.journal, key()) {
    HOB_CHECK(n_windows_ > 0);
  }

  std::vector<double> run() {
    std::vector<double> losses;
    uint64_t n_missing = 0;
    for (size_t g = 0; g < groups_.size(); g++) n_missing += journal_.find(g) == nullptr;
    n_runs_ = n_missing > 0 ? (n_missing + 1) * n_windows_ : 0;
    const ScratchFile scratch{options_.scratch};
    if (n_missing > 0) run_base();
    for (size_t g = 0; g < groups_.size(); g++) {
      if (journal_.find(g) == nullptr) journal_.add(g, run_group(groups_[g]));
      losses.push_back(*journal_.find(g));
    }
    return losses;
  }

 private:
  uint64_t key() const {
    Hash64 hash;
    const auto add = [&](const auto& value) { hash.add(std::as_bytes(std::span(&value, 1))); };
    add(kMethodVersion);
    for (const ModelFingerprint::File& file : fingerprint_of(model_).files) {
      add(file.n_bytes);
      add(file.header_hash);
      add(file.experts_hash);
    }
    hash.add(std::as_bytes(options_.tokens));
    for (const TensorGroup& group : groups_)
      for (const RawTensor* t : group.tensors) hash.add(std::as_bytes(std::span(t->name)));
    return hash.value();
  }

  LogitsFileHeader header(const Engine& engine) const {
    return {static_cast<uint32_t>(engine.n_vocab()), kLossWindow, kLossWindow,
            static_cast<uint32_t>(n_windows_ * (kLossWindow - kLossFirst)),
            hash_tokens(options_.tokens)};
  }

  std::unique_ptr<ModelSession> load(ModelFile file) const {
    return ModelSession::load(plan_model(options_.session, std::move(file)), {});
  }

  // The token that follows a position is of no interest here, so every row has target 0.
  void run_base() {
    const std::unique_ptr<ModelSession> session = load(model_);
    LogitsWriter base(options_.scratch, header(session->engine()));
    run_text(session->engine(),
             [&](int, int, std::span<const float> logits) { base.add(0, logits); });
    base.finish();
  }

  double run_group(const TensorGroup& group) {
    const std::unique_ptr<ModelSession> session = load(with_rounded(model_, group.tensors));
    LogitsReader base(options_.scratch, header(session->engine()));
    double sum = 0;
    run_text(session->engine(), [&](int, int, std::span<const float> logits) {
      sum += kl_divergence(base.next(0), logits);
    });
    return sum / static_cast<double>(n_windows_ * (kLossWindow - kLossFirst));
  }

  void run_text(Engine& engine, const LogitsSink& sink) {
    for (size_t w = 0; w < n_windows_; w++) {
      progress_(n_done_++, n_runs_);
      const auto part = options_.tokens.subspan(w * kLossWindow, kLossWindow);
      std::vector<int32_t> tokens(part.begin(), part.end());
      // The model has never seen a text that starts without.
      if (options_.bos >= 0) tokens[0] = options_.bos;
      run_window(engine, tokens, sink);
    }
  }

  const ModelFile& model_;
  std::span<const TensorGroup> groups_;
  const GroupLossOptions& options_;
  const std::function<void(uint64_t, uint64_t)>& progress_;
  const size_t n_windows_;
  LossJournal journal_;
  uint64_t n_done_ = 0, n_runs_ = 0;
};

}  // namespace

void set_loss_options(SessionOptions& options) {
  options.pack = "none";
  options.n_ctx = kLossWindow;
  options.n_seqs = 1;
  options.max_logit_rows = kLossWindow - kLossFirst;
}

std::vector<double> measure_group_losses(const ModelFile& model,
                                         std::span<const TensorGroup> groups,
                                         const GroupLossOptions& options,
                                         const std::function<void(uint64_t, uint64_t)>& progress) {
  return Measurement(model, groups, options, progress).run();
}

}  // namespace hob
