// hob perplexity MODEL -f TEXT: windows of --ctx tokens, the second half of each scored.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include "base/error.h"
#include "command.h"
#include "engine/score.h"
#include "options.h"
#include "output.h"

namespace hob::app {
namespace {

struct Options {
  CommonOptions common;
  std::string file, save_logits, kl_base;
  int stride = 0, chunk = 0;
};

constexpr int kLogitRows = 64;  // kept at a time; a step may hold more rows that need none

// Window w covers tokens [begin, begin + n); its targets are the tokens from first_target on.
struct Window {
  size_t begin = 0, n = 0, first_target = 0;
};

std::vector<Window> make_windows(size_t n_tok, size_t ctx, size_t stride) {
  std::vector<Window> windows;
  if (n_tok < ctx)
    return {{0, n_tok, n_tok / 2 + 1}};  // a short text is one window of its own length
  for (size_t begin = 0; begin + ctx <= n_tok; begin += stride)
    windows.push_back({begin, ctx, ctx / 2 + 1});
  return windows;
}

// Sums over everything scored.
class Scores {
 public:
  void add(std::span<const float> logits, int32_t target) {
    nll_ -= log_prob(logits, target);
    n_++;
  }
  void compare(std::span<const float> base, std::span<const float> logits) {
    kl_.push_back(kl_divergence(base, logits));
    n_same_top_ += arg_max(base) == arg_max(logits);
  }
  size_t n() const { return n_; }
  double mean_nll() const { return nll_ / static_cast<double>(n_); }
  bool compared() const { return !kl_.empty(); }
  double mean_kl() const {
    double sum = 0;
    for (double x : kl_) sum += x;
    return sum / static_cast<double>(kl_.size());
  }
  double p99_kl() {
    std::sort(kl_.begin(), kl_.end());
    return kl_[std::min(kl_.size() - 1, kl_.size() * 99 / 100)];
  }
  double top1_agreement() const {
    return static_cast<double>(n_same_top_) / static_cast<double>(kl_.size());
  }

 private:
  double nll_ = 0;
  size_t n_ = 0, n_same_top_ = 0;
  std::vector<double> kl_;
};

struct Files {
  std::optional<LogitsWriter> save;
  std::optional<LogitsReader> base;
};

void score_window(Engine& engine, std::vector<int32_t> tokens, size_t first_target, Files& files,
                  Scores& scores) {
  const int seq = engine.open();
  // The last token is only a target: its own logits predict nothing that is known.
  const auto n_logits = static_cast<int>(tokens.size() - first_target);
  engine.feed(seq, std::span(tokens).first(tokens.size() - 1), n_logits);
  const LogitsSink sink = [&](int, int position, std::span<const float> logits) {
    const int32_t target = tokens[static_cast<size_t>(position) + 1];
    scores.add(logits, target);
    if (files.save) files.save->add(target, logits);
    if (files.base) scores.compare(files.base->next(target), logits);
  };
  while (engine.step(sink)) {
  }
  if (engine.error(seq)) std::rethrow_exception(engine.error(seq));
  engine.close(seq);
}

std::vector<int32_t> read_tokens(const Options& o, const Tokenizer& tokenizer) {
  const std::vector<int32_t> tokens =
      tokenizer.encode(read_text_file(o.file), {.add_special = true, .parse_special = false});
  if (tokens.size() < 4)
    fail(Code::kInvalidArgument, "[perplexity] expected a text of at least 4 tokens, {} has {}",
         o.file, tokens.size());
  return tokens;
}

void print(const Options& o, Scores& s, size_t n_windows, const Decoder& decoder) {
  const double ppl = std::exp(s.mean_nll());
  const PrecisionCounts mixed = decoder.precision_counts();
  // One standard deviation of the mean would need independent tokens; it is not given rather than
  // given wrongly.
  if (o.common.json) {
    nlohmann::ordered_json object = {
        {"ppl", ppl}, {"mean_nll", s.mean_nll()}, {"n_tok", s.n()}, {"windows", n_windows}};
    if (s.compared()) {
      object["mean_kl"] = s.mean_kl();
      object["p99_kl"] = s.p99_kl();
      object["top1_agreement"] = s.top1_agreement();
    }
    if (mixed.n_uses > 0) add_precision(object, mixed, decoder.thresholds());
    return write_json(object);
  }
  write_out(fmt::format("PPL {:.4f} ({} tokens scored in {} windows)\n", ppl, s.n(), n_windows));
  if (s.compared())
    write_out(fmt::format("KL mean {:.6f}, p99 {:.6f}; same top token {:.2f} %\n", s.mean_kl(),
                          s.p99_kl(), s.top1_agreement() * 100));
  if (mixed.n_uses > 0) write_out(precision_text(mixed, decoder.thresholds()) + "\n");
}

void run(const Options& o) {
  if (!o.save_logits.empty() && o.save_logits == o.kl_base)
    throw UsageError("[usage] --save-logits and --kl-base: expected two files, got the same");
  SessionOptions options = session_options(o.common);
  options.max_logit_rows = o.chunk ? std::min(o.chunk, kLogitRows) : kLogitRows;
  options.chunk = o.chunk;
  ModelPlan plan = plan_model(options);
  const std::unique_ptr<Tokenizer> tokenizer = Tokenizer::from_gguf(plan.file.metadata());
  const std::vector<int32_t> tokens = read_tokens(o, *tokenizer);
  const std::unique_ptr<ModelSession> session = load_session(o.common, std::move(plan));
  Engine& engine = session->engine();
  const auto ctx = static_cast<size_t>(engine.limits().n_ctx);
  const size_t stride = o.stride ? static_cast<size_t>(o.stride) : ctx;
  const std::vector<Window> windows = make_windows(tokens.size(), ctx, stride);

  size_t n_rows = 0;
  for (const Window& w : windows) n_rows += w.n - w.first_target;
  const LogitsFileHeader header = {static_cast<uint32_t>(engine.n_vocab()),
                                   static_cast<uint32_t>(ctx), static_cast<uint32_t>(stride),
                                   static_cast<uint32_t>(n_rows), hash_tokens(tokens)};
  Files files;
  if (!o.kl_base.empty()) files.base.emplace(o.kl_base, header);
  if (!o.save_logits.empty()) files.save.emplace(o.save_logits, header);

  const bool starts_with_bos = tokenizer->bos() >= 0 && tokens[0] == tokenizer->bos();
  Scores scores;
  ProgressBar bar(o.common.quiet);
  for (size_t i = 0; i < windows.size(); i++) {
    const Window& w = windows[i];
    std::vector<int32_t> window(tokens.begin() + static_cast<long>(w.begin),
                                tokens.begin() + static_cast<long>(w.begin + w.n));
    if (starts_with_bos)
      window[0] = tokenizer->bos();  // the model has never seen a text that starts without
    score_window(engine, std::move(window), w.first_target, files, scores);
    bar.update("scoring", i + 1, windows.size());
  }
  bar.clear();
  if (files.save) files.save->finish();
  print(o, scores, windows.size(), session->decoder());
}

}  // namespace

Runner setup_perplexity(CLI::App& app) {
  auto o = std::make_shared<Options>();
  add_common_options(app, o->common);
  app.add_option("-f,--file", o->file, "text file; - = stdin")->required();
  app.add_option("--stride", o->stride, "tokens between the starts of two windows; default --ctx")
      ->check(CLI::Range(1, 1 << 24));
  app.add_option("--chunk", o->chunk,
                 "rows per step; 1 = as decoding does, for mixed precision from a small cache")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--save-logits", o->save_logits, "keep the logits of all scored tokens (f32)");
  app.add_option("--kl-base", o->kl_base, "compare with logits that --save-logits kept");
  return [o] { run(*o); };
}

}  // namespace hob::app
