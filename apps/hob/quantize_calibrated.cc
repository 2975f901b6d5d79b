// hob quantize --method gptq | awq: layers rounded with a text in view.
#include "quantize_calibrated.h"

#include <fmt/format.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <map>
#include <memory>

#include "base/cpu_info.h"
#include "base/error.h"
#include "base/size_parse.h"
#include "command.h"
#include "engine/observed_run.h"
#include "hf/open_model.h"
#include "interrupt.h"
#include "output.h"
#include "quant/gptq_folder.h"
#include "quant/gptq_model.h"

namespace hob::app {
namespace {

const std::map<std::string, QuantMethod> kMethods = {{"rtn", QuantMethod::kRtn},
                                                     {"gptq", QuantMethod::kGptq},
                                                     {"awq", QuantMethod::kAwq},
                                                     {"awq+gptq", QuantMethod::kAwqGptq}};
const std::map<std::string, GridKind> kGrids = {{"symmetric", GridKind::kSymmetric},
                                                {"zero-point", GridKind::kZeroPoint},
                                                {"offset", GridKind::kOffset}};
const std::map<std::string, HfPackMethod> kFormats = {{"gptq", HfPackMethod::kGptq},
                                                      {"awq", HfPackMethod::kAwq}};
constexpr int kWindow = 512;  // tokens of a calibration window, unless --ctx says otherwise

void check_output(const CalibratedOptions& o, const ModelFile& file) {
  std::error_code ignored;
  if (std::filesystem::equivalent(o.quantise.out, o.common.model, ignored))
    throw UsageError(fmt::format("[usage] out: expected another folder than the model's, got {}",
                                 o.quantise.out));
  for (const std::string& part : file.files())
    if (std::filesystem::equivalent(o.quantise.out, part, ignored))
      throw UsageError(
          fmt::format("[usage] out: expected another file than the model, got {}", o.quantise.out));
  if (!o.force && std::filesystem::exists(o.quantise.out, ignored))
    fail(Code::kInvalidArgument,
         "[quantize] {}: expected no file of this name, there is one: --force replaces it",
         o.quantise.out);
}

std::vector<int32_t> read_tokens(const CalibratedOptions& o, const ModelFile& file) {
  if (o.quantise.method == QuantMethod::kRtn) return {};
  if (o.calibration.empty())
    throw UsageError("[usage] --calibration: expected a text, as gptq and awq need one");
  const std::unique_ptr<Tokenizer> tokenizer = Tokenizer::from_gguf(file.metadata());
  return sample_windows(tokenizer->encode(read_text_file(o.calibration),
                                          {.add_special = true, .parse_special = false}),
                        static_cast<size_t>(o.n_tok),
                        static_cast<size_t>(o.common.ctx > 0 ? o.common.ctx : kWindow));
}

// One line per layer and input: which experts the text hardly reached.
void note_experts(const CalibratedOptions& o, const QuantiseReport& report) {
  const auto list = [&](const std::vector<InputKey>& keys, const char* what) {
    std::map<int, std::string> layers;
    for (const InputKey& key : keys)
      if (key.input == LinearInput::kHidden) layers[key.layer] += fmt::format(" {}", key.expert);
    for (const auto& [layer, experts] : layers)
      note(o.common.quiet, fmt::format("hob: note: blk.{} experts{}: {}", layer, experts, what));
  };
  list(report.blended, "fewer rows than inputs; filled up with their layer's average");
  list(report.unseen, "no rows at all in this layer; rounded");
}

void print(const CalibratedOptions& o, const QuantiseReport& r, size_t n_tok, double seconds) {
  const std::filesystem::path out(o.quantise.out);
  const uint64_t n_bytes = std::filesystem::file_size(o.folder ? out / "model.safetensors" : out);
  note_experts(o, r);
  if (r.n_rounded > 0)
    note(
        o.common.quiet,
        fmt::format("hob: note: {} tensors are rounded to the nearest: the method gives Q4_0, Q4_1 "
                    "and Q8_0, and only to the layers' matrices",
                    r.n_rounded));
  if (o.common.json)
    return write_json({{"file", o.quantise.out},
                       {"bytes", n_bytes},
                       {"n_matrices", r.n_matrices},
                       {"calibration_tokens", n_tok},
                       {"passes", r.n_passes},
                       {"n_rounded", r.n_rounded},
                       {"n_dead", r.n_dead},
                       {"damp", r.damp},
                       {"n_blended", r.blended.size()},
                       {"n_unseen", r.unseen.size()},
                       {"seconds", seconds}});
  write_out(fmt::format("{}: {}, {} matrices; {} calibration tokens in {} passes; {:.1f} s\n",
                        o.quantise.out, format_size(n_bytes), r.n_matrices, n_tok, r.n_passes,
                        seconds));
}

}  // namespace

void note_unpacked(bool quiet, const WritableModel& model) {
  if (model.unpacked)
    note(quiet,
         "hob: note: the folder's layers are quantised already: they are read back first, and "
         "rounding them again adds to their error");
}

void run_calibrated(CalibratedOptions& o) {
  const auto start = std::chrono::steady_clock::now();
  SessionOptions session_of = session_options(o.common);
  if (o.common.ctx == 0) session_of.n_ctx = kWindow;
  session_of.pack = "none";
  session_of.max_logit_rows = kCalibrationRows;
  o.quantise.hessian_bytes = parse_size(o.hessian_memory);
  WritableModel model = open_writable_model(o.common.model);
  note_unpacked(o.common.quiet, model);
  ModelPlan plan = plan_model(session_of, std::move(model.file));
  check_output(o, plan.file);
  if (o.choose_types) o.quantise.types = o.choose_types(plan.file);
  const std::vector<int32_t> tokens = read_tokens(o, plan.file);
  const std::unique_ptr<ModelSession> session = load_session(o.common, std::move(plan));
  ThreadPool pool(o.common.threads ? o.common.threads : default_threads());
  std::signal(SIGXFSZ, SIG_IGN);  // a file size limit is an error of write(), like a full disk
  const Interrupt interrupt = install_interrupt(true);
  ProgressBar bar(o.common.quiet);
  const CalibratedProgress progress = [&](std::string_view what, uint64_t done, uint64_t all) {
    if (interrupt.flag)
      fail(Code::kCancelled, "[quantize] {}: interrupted, nothing is left", o.quantise.out);
    bar.update(what, done, all);
  };
  const QuantiseReport report = o.folder
                                    ? quantise_to_folder(*session, o.common.model, *o.folder,
                                                         tokens, o.quantise, pool, progress)
                                    : quantise_model(*session, tokens, o.quantise, pool, progress);
  bar.clear();
  const auto time = std::chrono::steady_clock::now() - start;
  print(o, report, tokens.size(), std::chrono::duration<double>(time).count());
}

void add_calibrated_options(CLI::App& app, CalibratedOptions& o) {
  QuantiseOptions& q = o.quantise;
  app.add_option("--method", q.method, "rtn: round to nearest (default), gptq, awq or awq+gptq")
      ->transform(CLI::CheckedTransformer(kMethods).description(""))
      ->type_name("TEXT");
  app.add_option("--calibration", o.calibration,
                 "text like the model's own, for gptq, awq and --target-size; - = stdin");
  app.add_option("--calibration-tokens", o.n_tok,
                 "at most so many, in windows from all of it; default 32768, with --target-size "
                 "2048")
      ->check(CLI::Range(1, 1 << 28));
  app.add_flag("--act-order", q.gptq.act_order, "gptq: columns with the largest inputs first");
  app.add_option("--damp", q.gptq.damp, "gptq: added to the diagonal; default 0.01")
      ->check(number_in(0, 1));
  app.add_option("--refine", q.gptq.refine,
                 "gptq, awq: rounds of descent on codes and scales afterwards; default 4")
      ->check(CLI::Range(0, 100));
  app.add_option("--hessian-memory", o.hessian_memory, "for statistics of inputs; default 1G");
  app.add_flag("--as-f32", q.as_f32,
               "write the rounded values as F32, to measure any --bits, --group and --grid");
  app.add_option("--format", o.folder,
                 "gptq or awq: make a Hugging Face folder of that kind from one; default: GGUF")
      ->transform(CLI::CheckedTransformer(kFormats).description(""))
      ->type_name("TEXT");
  app.add_option("--bits", q.gptq.grid.bits, "with --as-f32, --format: per weight; default 4")
      ->check(CLI::Range(2, 8));
  app.add_option("--group", o.group,
                 "with --as-f32, --format: weights that share a scale; 0 = a row; default 32, 128")
      ->check(CLI::Range(0, 1 << 22));
  app.add_option("--max-shrink", q.gptq.grid.max_shrink,
                 "with --as-f32, --format: hundredths that may be cut off a group's range; default "
                 "20, 0 = none")
      ->check(CLI::Range(0, 90));
  app.add_option("--grid", o.grid,
                 "symmetric (default with --format gptq), zero-point (awq) or offset (--as-f32)")
      ->transform(CLI::CheckedTransformer(kGrids).description(""))
      ->type_name("TEXT");
}

void set_calibrated_grid(CalibratedOptions& o) {
  GridParams& grid = o.quantise.gptq.grid;
  grid.group = o.group.value_or(o.folder ? 128 : 32);
  GridKind usual = GridKind::kOffset;
  if (o.folder)
    usual = *o.folder == HfPackMethod::kGptq ? GridKind::kSymmetric : GridKind::kZeroPoint;
  grid.kind = o.grid.value_or(usual);
  if (o.folder) folder_packing(*o.folder, grid);  // for its checks
}

void set_calibrated_type(CalibratedOptions& o, const std::string& type) {
  GridParams& grid = o.quantise.gptq.grid;
  for (const auto& [name, kind, bits] :
       {std::tuple{"Q4_0", GridKind::kSymmetric, 4}, std::tuple{"Q4_1", GridKind::kOffset, 4},
        std::tuple{"Q8_0", GridKind::kSymmetric, 8}})
    if (type == name) {
      grid.kind = kind;
      grid.bits = bits;
      grid.group = 32;
      return;
    }
  throw UsageError(fmt::format(
      "[usage] --type: expected Q4_0, Q4_1 or Q8_0 with --method gptq and awq, got '{}'", type));
}

}  // namespace hob::app
