#include "quantize_auto.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "base/error.h"
#include "base/size_parse.h"
#include "command.h"
#include "output.h"
#include "quant/calibration.h"
#include "quant/quantise_gguf.h"

namespace hob::app {
namespace {

uint64_t target_bytes(const AutoOptions& o, const ModelFile& model,
                      const std::vector<QuantStep>& steps) {
  if (!o.size.empty()) return parse_size(o.size);
  uint64_t n_weights = 0, n_bytes = 0;
  for (const QuantStep& step : steps) {
    n_weights += static_cast<uint64_t>(step.tensor->shape.n_elements());
    n_bytes += row_bytes(step.to, step.tensor->shape.n_elements());
  }
  // What is no weight, header and padding, is not counted.
  const uint64_t rest = quantised_bytes(model, find_file_type("F32"), steps) - n_bytes;
  return rest + static_cast<uint64_t>(*o.bpw / 8 * static_cast<double>(n_weights));
}

std::vector<DType> candidate_types(const AutoOptions& o) {
  if (o.candidates.empty()) return {default_candidates().begin(), default_candidates().end()};
  std::vector<DType> types;
  for (const std::string& name : CLI::detail::split(o.candidates, ',')) {
    try {
      types.push_back(parse_tensor_type(name));
    } catch (const Error& e) {  // a wrong word on the command line
      throw UsageError(e.what());
    }
  }
  return types;
}

// The windows to measure on, and what every one begins with.
struct Text {
  std::vector<int32_t> tokens;
  int bos = -1;
};

Text read_text(const AutoOptions& o, const ModelFile& model) {
  const std::unique_ptr<Tokenizer> tokenizer = Tokenizer::from_gguf(model.metadata());
  Text text;
  text.tokens = tokenizer->encode(read_text_file(o.calibration),
                                  {.add_special = true, .parse_special = false});
  if (text.tokens.size() < static_cast<size_t>(kLossWindow))
    fail(Code::kInvalidArgument,
         "[quantize] --calibration: expected a text of at least {} tokens, {} has {}", kLossWindow,
         o.calibration, text.tokens.size());
  if (tokenizer->bos() >= 0 && text.tokens[0] == tokenizer->bos()) text.bos = tokenizer->bos();
  text.tokens = sample_windows(text.tokens, static_cast<size_t>(std::max(o.n_tok, kLossWindow)),
                               static_cast<size_t>(kLossWindow));
  return text;
}

}  // namespace

void add_auto_options(CLI::App& app, AutoOptions& o) {
  app.add_option("--target-size", o.size,
                 "instead of --type: a file of at most this size (4.5G, 700M), each matrix in the "
                 "type that loses least");
  app.add_option("--target-bpw", o.bpw, "the same, as bits per weight of the whole model")
      ->check(number_in(0.1, 32));
  app.add_option("--candidates", o.candidates,
                 "with a target: the types to choose from, as Q4_K,Q6_K; default all");
  app.add_option("--measurements", o.n_measurements,
                 "with a target and --calibration: at most so many groups of matrices are "
                 "measured; default 64")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--losses", o.losses,
                 "with a target and --calibration: keep what is measured in this file, for other "
                 "targets");
}

void check_auto_options(const AutoOptions& o, bool has_type) {
  if (!o.wanted()) {
    if (!o.candidates.empty() || !o.losses.empty())
      throw UsageError("[usage] --candidates and --losses: expected --target-size with them");
    return;
  }
  if (has_type || (!o.size.empty() && o.bpw))
    throw UsageError("[usage] expected one of --type, --target-size and --target-bpw, got two");
  if (!o.losses.empty() && o.calibration.empty())
    throw UsageError("[usage] --losses: expected --calibration with it");
}

std::string losses_file(const AutoOptions& o) {
  return o.losses.empty() ? o.out + ".partial.losses" : o.losses;
}

void forget_losses(const AutoOptions& o) {
  if (o.losses.empty() && !o.calibration.empty()) ::unlink(losses_file(o).c_str());
}

AutoTypes choose_auto_types(const AutoOptions& o, const ModelFile& model,
                            std::vector<QuantStep> steps, const ImportanceMatrix* importance,
                            ThreadPool& pool, const Interrupt& interrupt) {
  AutoTypeOptions options;
  options.target_bytes = target_bytes(o, model, steps);
  options.candidates = candidate_types(o);
  options.n_most_groups = o.n_measurements;
  Text text;
  if (!o.calibration.empty()) {
    text = read_text(o, model);
    GroupLossOptions measured{.session = session_options(o.common),
                              .tokens = text.tokens,
                              .bos = text.bos,
                              .scratch = o.out + ".partial.logits",
                              .journal = losses_file(o)};
    set_loss_options(measured.session);
    options.measured = std::move(measured);
  }
  ProgressBar bar(o.common.quiet);
  return choose_types(model, std::move(steps), importance, options, pool,
                      [&](std::string_view what, uint64_t done, uint64_t total) {
                        if (interrupt.flag)
                          fail(Code::kCancelled,
                               "[quantize] {}: interrupted; the same command continues", o.out);
                        bar.update(what, done, total);
                      });
}

}  // namespace hob::app
