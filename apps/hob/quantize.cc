// hob quantize IN OUT.gguf --type T: the same model with smaller tensor types.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>

#include "base/cpu_info.h"
#include "base/error.h"
#include "base/size_parse.h"
#include "command.h"
#include "format/byte_source.h"
#include "hf/open_model.h"
#include "interrupt.h"
#include "output.h"
#include "quant/quantise_gguf.h"
#include "quantize_auto.h"
#include "quantize_calibrated.h"

namespace hob::app {
namespace {

struct Options {
  std::string in, out, type, output_type, token_embedding_type, imatrix;
  std::vector<std::string> tensor_types;
  int threads = 0;
  bool pure = false, dry_run = false, json = false, quiet = false, force = false;
  CalibratedOptions calibrated;
  AutoOptions to_size;  // --target-size

  bool is_calibrated() const {
    return calibrated.quantise.method != QuantMethod::kRtn || calibrated.quantise.as_f32 ||
           calibrated.folder;
  }
};

// Every tensor's type, and where it comes from.
struct Chosen {
  const ModelFile* model = nullptr;
  const FileType* type = nullptr;
  std::vector<QuantStep> steps;
  std::optional<AutoTypes> automatic;  // with a target
};

// What only one of the two ways knows must not be dropped without a word.
void check_methods(const Options& o) {
  check_auto_options(o.to_size, !o.type.empty());
  if (!o.is_calibrated()) {
    if (o.type.empty() && !o.to_size.wanted())
      throw UsageError("[usage] --type is required, or --target-size");
    if (o.pure && o.to_size.wanted())
      throw UsageError("[usage] --pure: expected --type with it, not a target");
    if (!o.calibrated.calibration.empty() && !o.to_size.wanted())
      throw UsageError(
          "[usage] --calibration: expected --method gptq or awq, or --target-size with it");
    return;
  }
  const bool named =
      !o.tensor_types.empty() || !o.output_type.empty() || !o.token_embedding_type.empty();
  const bool as_f32 = o.calibrated.quantise.as_f32;
  if (named && as_f32)
    throw UsageError("[usage] --as-f32: expected no types beside it, they are all F32");
  if (o.calibrated.folder && (named || as_f32 || !o.type.empty()))
    throw UsageError("[usage] --format: expected --bits, --group and --grid with it, no types");
  if (o.to_size.wanted() || !o.imatrix.empty() || o.pure || o.dry_run)
    throw UsageError(
        "[usage] --method: expected rtn with --imatrix, --pure, --dry-run and --target-size");
  if (o.type.empty() != (as_f32 || o.calibrated.folder.has_value()))
    throw UsageError("[usage] --type: expected either it, or --as-f32 or --format with --bits");
  std::error_code ignored;
  if (o.calibrated.folder && !std::filesystem::is_directory(o.in, ignored))
    throw UsageError("[usage] --format: expected a Hugging Face folder to make another one of");
}

// "REGEX=TYPE"; an expression may contain '='.
std::pair<std::string, DType> parse_tensor_rule(const std::string& text) {
  const size_t at = text.rfind('=');
  if (at == std::string::npos || at == 0)
    throw UsageError(fmt::format("[usage] --tensor-type: expected REGEX=TYPE, got '{}'", text));
  return {text.substr(0, at), parse_tensor_type(std::string_view(text).substr(at + 1))};
}

QuantPlanOptions plan_options(const Options& o) {
  try {
    QuantPlanOptions plan;
    // With a target F16 is only where the choice begins.
    plan.type = &find_file_type(o.to_size.wanted() ? "F16" : o.type);
    for (const std::string& rule : o.tensor_types)
      plan.tensor_types.push_back(parse_tensor_rule(rule));
    if (!o.output_type.empty()) plan.output_type = parse_tensor_type(o.output_type);
    if (!o.token_embedding_type.empty())
      plan.token_embedding_type = parse_tensor_type(o.token_embedding_type);
    plan.pure = o.pure;
    plan.has_importance = !o.imatrix.empty();
    return plan;
  } catch (const Error& e) {  // a wrong word on the command line
    throw UsageError(e.what());
  }
}

void run_with_text(Options& o) {
  CalibratedOptions& c = o.calibrated;
  o.type.empty() ? set_calibrated_grid(c) : set_calibrated_type(c, o.type);
  c.common.model = o.in;
  c.common.threads = o.threads;
  c.common.json = o.json;
  c.common.quiet = o.quiet;
  c.force = o.force;
  c.quantise.out = o.out;
  if (o.calibrated.quantise.as_f32 || c.folder) return run_calibrated(c);
  const QuantPlanOptions named = plan_options(o);
  c.choose_types = [named](const ModelFile& model) {
    std::map<std::string, DType, std::less<>> types;
    for (const QuantStep& step : plan_quantisation(model, named))
      if (step.named) types[step.tensor->name] = step.to;
    return types;
  };
  run_calibrated(c);
}

void check_output(const Options& o, const ModelFile& model) {
  std::error_code ignored;
  std::vector<std::string> inputs = model.files();
  if (!o.imatrix.empty()) inputs.push_back(o.imatrix);
  for (const std::string& file : inputs)
    if (std::filesystem::equivalent(o.out, file, ignored))
      throw UsageError(
          fmt::format("[usage] out: expected another file than the input, got {}", o.out));
  if (!o.force && !o.dry_run && std::filesystem::exists(o.out, ignored))
    fail(Code::kInvalidArgument,
         "[quantize] {}: expected no file of this name, there is one: --force replaces it", o.out);
}

void add_notes(const Options& o, const std::vector<QuantStep>& steps) {
  size_t n_requantised = 0;
  std::map<std::string, int> fallbacks;  // the message, how many tensors
  for (const QuantStep& step : steps) {
    if (step.fell_back())
      fallbacks[fmt::format("{} instead of {}, whose blocks do not divide rows of {}",
                            dtype_info(step.to).name, dtype_info(step.wanted).name,
                            step.tensor->shape.cols())]++;
    n_requantised += !step.keep() && dtype_info(step.tensor->dtype).quantised();
  }
  for (const auto& [text, n] : fallbacks) note(o.quiet, fmt::format("{} tensors: {}", n, text));
  if (n_requantised > 0)
    note(o.quiet,
         fmt::format("{} tensors are quantised already: quantising them again adds to their error; "
                     "a file of F16, BF16 or F32 gives better results",
                     n_requantised));
}

// What the matrix says nothing about is rounded as without one.
void note_missing(const Options& o, const std::vector<QuantStep>& steps,
                  const ImportanceMatrix& importance) {
  size_t n_without = 0, n_experts = 0;
  for (const QuantStep& step : steps) {
    const RawTensor& tensor = *step.tensor;
    if (step.keep() || !dtype_info(step.to).quantised()) continue;
    const int64_t n = tensor.shape.n_dims > 2 ? tensor.shape[0] : 1;
    int64_t n_here = 0;
    for (int64_t e = 0; e < n; e++) n_here += importance.find(tensor, e) == nullptr;
    n_without += n_here == n;
    if (n_here < n) n_experts += static_cast<size_t>(n_here);
  }
  if (n_without + n_experts > 0)
    note(o.quiet, fmt::format("{}: nothing about {} tensors and {} experts of others", o.imatrix,
                              n_without, n_experts));
}

nlohmann::ordered_json type_counts(const std::vector<QuantStep>& steps) {
  std::map<std::string_view, int> counts;
  for (const QuantStep& step : steps) counts[dtype_info(step.to).name]++;
  nlohmann::ordered_json out;
  for (const auto& [name, n] : counts) out[std::string(name)] = n;
  return out;
}

// "predicted KL 0.00123 nats per token" or ""; the keys loss and loss_unit.
std::string loss_text(const Chosen& c) {
  if (!c.automatic) return {};
  return fmt::format("; {} {:.6f}", c.automatic->measured ? "predicted KL" : "relative error",
                     c.automatic->loss);
}
void add_loss(nlohmann::ordered_json& object, const Chosen& c) {
  if (!c.automatic) return;
  object["loss"] = c.automatic->loss;
  object["loss_unit"] = c.automatic->measured ? "kl" : "relative_error";
}

void print_dry_run(const Options& o, const Chosen& c, uint64_t bytes_in) {
  for (size_t i = 0; i < c.steps.size(); i++) {
    const RawTensor& t = *c.steps[i].tensor;
    const DType type = c.steps[i].to;
    const uint64_t to_bytes = row_bytes(type, t.shape.n_elements());
    const std::string_view from = dtype_info(t.dtype).name, to = dtype_info(type).name;
    const TensorLoss loss = c.automatic ? c.automatic->losses[i] : TensorLoss{};
    if (o.json) {
      nlohmann::ordered_json row = {
          {"tensor", t.name}, {"from", from}, {"to", to}, {"bytes", to_bytes}};
      if (c.automatic) {
        row["error"] = loss.error;
        row["loss"] = loss.loss;
      }
      write_json(row);
      continue;
    }
    write_out(fmt::format("{:<44} {:>18} {:>7} -> {:<7} {:>10}", printable(t.name), t.shape.str(),
                          from, to, format_size(to_bytes)));
    write_out(c.automatic ? fmt::format("  error {:.6f}  loss {:.6f}\n", loss.error, loss.loss)
                          : std::string("\n"));
  }
  const uint64_t n_bytes = quantised_bytes(*c.model, *c.type, c.steps);
  nlohmann::ordered_json sum = {
      {"bytes", n_bytes}, {"bytes_in", bytes_in}, {"types", type_counts(c.steps)}};
  add_loss(sum, c);
  if (o.json) return write_json(sum);
  write_out(fmt::format("{} -> {}{}\n", format_size(bytes_in), format_size(n_bytes), loss_text(c)));
}

void print_result(const Options& o, const Chosen& c, const QuantiseResult& result,
                  uint64_t bytes_in, double seconds) {
  nlohmann::ordered_json object = {{"file", o.out},
                                   {"type", c.type->name},
                                   {"bytes", result.n_bytes},
                                   {"bytes_in", bytes_in},
                                   {"bytes_resumed", result.bytes_resumed},
                                   {"n_tensors", c.steps.size()},
                                   {"types", type_counts(c.steps)},
                                   {"seconds", seconds}};
  add_loss(object, c);
  if (o.json) return write_json(object);
  write_out(fmt::format("{}: {}, {} -> {}{}; {:.1f} s\n", o.out, c.type->name,
                        format_size(bytes_in), format_size(result.n_bytes), loss_text(c), seconds));
}

Chosen choose(Options& o, const ModelFile& model, const ImportanceMatrix* importance,
              ThreadPool& pool, const Interrupt& interrupt) {
  const QuantPlanOptions options = plan_options(o);
  Chosen c{&model, options.type, plan_quantisation(model, options), std::nullopt};
  if (!o.to_size.wanted()) return c;
  o.to_size.common = o.calibrated.common;
  o.to_size.common.model = o.in;
  o.to_size.common.threads = o.threads;
  o.to_size.common.quiet = o.quiet;
  o.to_size.out = o.out;
  c.automatic = choose_auto_types(o.to_size, model, c.steps, importance, pool, interrupt);
  c.type = c.automatic->type;
  c.steps = c.automatic->steps;
  return c;
}

QuantiseResult write_file(const Options& o, const Chosen& c, const ImportanceMatrix* importance,
                          ThreadPool& pool, const Interrupt& interrupt) {
  ProgressBar bar(o.quiet);
  return quantise_gguf(*c.model, *c.type, c.steps, importance, o.out, pool,
                       [&](uint64_t done, uint64_t total, uint64_t before) {
                         if (interrupt.flag)
                           fail(Code::kCancelled,
                                "[quantize] {}: interrupted; the same command continues", o.out);
                         bar.update_bytes("quantising", done, total, before);
                       });
}

void run(Options& o) {
  check_methods(o);
  if (o.is_calibrated()) return run_with_text(o);
  const auto start = std::chrono::steady_clock::now();
  const WritableModel opened = open_writable_model(o.in);
  const ModelFile& model = opened.file;
  note_unpacked(o.quiet, opened);
  check_output(o, model);
  std::optional<ImportanceMatrix> importance;
  if (!o.imatrix.empty()) importance = ImportanceMatrix::open(o.imatrix);
  const ImportanceMatrix* const given = importance ? &*importance : nullptr;
  std::signal(SIGXFSZ, SIG_IGN);  // a file size limit is an error of write(), like a full disk
  const Interrupt interrupt = install_interrupt(true);
  ThreadPool pool(o.threads ? o.threads : default_threads());
  const Chosen chosen = choose(o, model, given, pool, interrupt);
  add_notes(o, chosen.steps);
  if (importance) note_missing(o, chosen.steps, *importance);
  if (o.dry_run) {
    forget_losses(o.to_size);
    return print_dry_run(o, chosen, model.total_bytes());
  }
  const QuantiseResult result = write_file(o, chosen, given, pool, interrupt);
  forget_losses(o.to_size);
  if (result.discarded)
    note(o.quiet, "an unfinished file of other inputs or options was thrown away");
  if (result.bytes_resumed > 0)
    note(o.quiet, fmt::format("continued after {}", format_size(result.bytes_resumed)));
  const auto time = std::chrono::steady_clock::now() - start;
  print_result(o, chosen, result, model.total_bytes(), std::chrono::duration<double>(time).count());
}

}  // namespace

Runner setup_quantize(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("in", o->in,
                 "the GGUF file to read, of several shards the first; or a Hugging Face folder")
      ->required();
  app.add_option("out", o->out, "the GGUF file to write; with --format the folder")->required();
  app.add_option("--type", o->type, "Q4_K_M, Q6_K, Q8_0, IQ4_XS, MXFP4_MOE, F16, ...");
  app.add_option("--tensor-type", o->tensor_types,
                 "REGEX=TYPE: another type for tensors with this in their name; the first counts")
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--output-type", o->output_type, "type of the output matrix");
  app.add_option("--token-embedding-type", o->token_embedding_type, "type of the token embedding");
  app.add_option("--imatrix", o->imatrix, "importance of every input: llama.cpp's GGUF form");
  app.add_flag("--pure", o->pure, "one type for all matrices, no mixture");
  app.add_flag("--dry-run", o->dry_run, "print every tensor's type and the size; write nothing");
  app.add_option("--threads", o->threads, "compute threads; default all cores")
      ->check(number_in(1, 1024));
  add_calibrated_options(app, o->calibrated);
  add_auto_options(app, o->to_size);
  app.add_option("--memory", o->calibrated.common.memory,
                 "with a text: limit of the whole process");
  app.add_flag("--force", o->force, "replace OUT.gguf if it is there");
  app.add_flag("--json", o->json, "one JSON object per line on stdout");
  app.add_flag("--quiet", o->quiet, "no notes and no progress on stderr");
  return [o, &app] {
    o->to_size.calibration = o->calibrated.calibration;
    if (app.count("--calibration-tokens") > 0) o->to_size.n_tok = o->calibrated.n_tok;
    run(*o);
  };
}

}  // namespace hob::app
