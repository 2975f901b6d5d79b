// hob pack MODEL: the sidecar file that the other commands read experts from.
#include <fmt/format.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <memory>
#include <optional>

#include "base/cpu_info.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/size_parse.h"
#include "command.h"
#include "engine/calibration.h"
#include "experts/pack_builder.h"
#include "experts/pack_plan.h"
#include "hf/open_model.h"
#include "interrupt.h"
#include "options.h"
#include "output.h"
#include "pack_facts.h"
#include "pack_kl.h"

namespace hob::app {
namespace {

struct Options {
  CommonOptions common;  // model, threads, json, quiet
  std::string out, verify, measure, calibration;
  int bits = 0;
  int kl_tokens = 2048;
  bool no_low = false, no_high = false, force = false;
};

// What both directions need to know about the model.
struct Model {
  ModelFile file;
  std::unique_ptr<Backend> backend;
  ExpertGeometry experts;
};

Model open_model(const Options& o) {
  Model m{open_model_file(o.common.model),
          make_cpu_backend({.n_threads = 1, .pin = false, .force_isa = {}}),
          {}};
  m.experts = bind_layout(m.file, *m.backend).experts;
  return m;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

PackChoice choose(const Options& o, const ExpertGeometry& experts) {
  PackChoice choice{.high = !o.no_high, .low_bits = o.bits};
  if (o.bits == 0 && !o.no_low) {
    choice.low_bits = default_low_bits(expert_bits(experts));
    if (choice.low_bits == 0 && expert_bits(experts) > 0)
      note(o.common.quiet, "hob: note: no low copy: the model's own weights are small already");
  }
  return choice;
}

void check_output(const Options& o, const std::string& out, const ModelFile& file) {
  std::error_code ignored;
  for (const std::string& part : file.files())
    if (std::filesystem::equivalent(out, part, ignored))
      throw UsageError(
          fmt::format("[usage] -o: expected another file than the model, got {}", out));
  if (!o.force && std::filesystem::exists(out, ignored))
    fail(Code::kInvalidArgument,
         "[pack] {}: expected no file of this name, there is one: --force replaces it, 'hob pack "
         "--verify' checks it",
         out);
}

struct Result {
  std::string out;
  uint64_t resumed_bytes = 0;
  double seconds = 0;
};

void print(const Options& o, const PackIndex& index, const Result& r) {
  const uint64_t high = index.slab_bytes(kPackHigh), low = index.slab_bytes(kPackLow);
  const std::optional<KlTable> table = kl_table_of(index, r.out);
  const double mb_s = static_cast<double>(high + low - r.resumed_bytes) / 1e6 / r.seconds;
  if (o.common.json) {
    nlohmann::ordered_json object = {{"file", r.out}, {"bytes", std::filesystem::file_size(r.out)}};
    object.update(pack_json(index));
    object.update({{"resumed_bytes", r.resumed_bytes}, {"seconds", r.seconds}, {"mb_s", mb_s}});
    if (table) object["kl_table"] = kl_table_json(*table);
    return write_json(object);
  }
  write_out(fmt::format("{}: {} slabs", r.out, slab_order(index).size()));
  if (high) write_out(fmt::format(", high {} ({})", format_size(high), types_of(index, kPackHigh)));
  if (low) write_out(fmt::format(", low {} ({})", format_size(low), types_of(index, kPackLow)));
  write_out(fmt::format("; {:.1f} s, {:.0f} MB/s\n", r.seconds, mb_s));
  if (table) print_kl_table(*table);
}

// The weights of the quantiser's errors, from the user's text.
struct Calibration {
  std::string text;
  ExpertInputStats stats;
  size_t n_tok = 0;
  uint64_t text_hash = 0;
};

std::optional<Calibration> run_calibration(const Options& o, const std::function<void()>& check) {
  if (o.calibration.empty()) return std::nullopt;
  std::string text = read_text_file(o.calibration);
  SessionOptions options = session_options(o.common);
  options.pack = "none";
  options.max_logit_rows = kCalibrationRows;
  ModelPlan plan = plan_model(options);
  const std::unique_ptr<Tokenizer> tokenizer = Tokenizer::from_gguf(plan.file.metadata());
  const std::vector<int32_t> tokens =
      tokenizer->encode(text, {.add_special = true, .parse_special = false});
  if (text.empty())
    fail(Code::kInvalidArgument, "[pack] --calibration {}: expected some text, it has none",
         o.calibration);
  const std::unique_ptr<ModelSession> session = load_session(o.common, std::move(plan));
  ProgressBar bar(o.common.quiet);
  const uint64_t text_hash = hash64(std::as_bytes(std::span(text)));
  Calibration c{std::move(text),
                calibrate(*session, tokens,
                          [&](uint64_t done, uint64_t total) {
                            check();
                            bar.update("calibrating", done, total);
                          }),
                tokens.size(), text_hash};
  bar.clear();
  if (const int n = c.stats.n_unseen(); n > 0)
    note(o.common.quiet,
         fmt::format("hob: note: the text reached all but {} experts; these are weighed as their "
                     "layer's average",
                     n));
  return c;
}

std::string describe(const PackChoice& choice, const std::optional<Calibration>& calibration) {
  std::string text =
      fmt::format("high={:d};bits={};quantiser=search/2", choice.high, choice.low_bits);
  if (calibration)
    text += fmt::format(";calibration_tokens={};calibration_hash={:016x}", calibration->n_tok,
                        calibration->text_hash);
  return text;
}

int thread_count(const Options& o) {
  return o.common.threads ? o.common.threads : default_threads();
}

void make(const Options& o) {
  const auto start = std::chrono::steady_clock::now();
  const Model m = open_model(o);
  Result result{.out = o.out.empty() ? default_pack_path(m.file) : o.out};
  const PackChoice choice = choose(o, m.experts);
  PackIndex index = plan_pack(m.experts, *m.backend, choice, fingerprint_of(m.file));
  check_output(o, result.out, m.file);
  const ExpertGeometry low =
      choice.low_bits ? low_geometry(m.experts, choice.low_bits) : ExpertGeometry{};

  std::signal(SIGXFSZ, SIG_IGN);  // a file size limit is an error of write(), like a full disk
  const Interrupt interrupt = install_interrupt(false);
  const auto stop_if_asked = [&] {
    if (interrupt.flag)
      fail(Code::kCancelled, "[pack] {}: interrupted; the same command goes on where it stopped",
           result.out);
  };
  std::optional<Calibration> calibration;
  if (choice.low_bits > 0) calibration = run_calibration(o, stop_if_asked);
  index.set_section("options", describe(choice, calibration));
  PackWriter writer(result.out, std::move(index));
  {
    ProgressBar bar(o.common.quiet);
    writer.check_resumed([&](uint64_t done, uint64_t total) {
      stop_if_asked();
      bar.update_bytes("checking", done, total);
    });
  }
  result.resumed_bytes = writer.done_bytes();
  if (result.resumed_bytes > 0)
    note(o.common.quiet, fmt::format("hob: note: going on with an interrupted pack, {} are there",
                                     format_size(result.resumed_bytes)));
  ThreadPool pool(thread_count(o));
  ProgressBar bar(o.common.quiet);
  const ImportanceSource importance =
      calibration ? [&](ExpertKey key) { return calibration->stats.importance(key); }
                  : ImportanceSource{};
  build_pack(writer, {m.experts, choice.low_bits ? &low : nullptr, *m.backend, pool, importance},
             [&](uint64_t done, uint64_t total) {
               stop_if_asked();
               bar.update_bytes("packing", done, total, result.resumed_bytes);
             });
  writer.commit();
  bar.clear();
  result.seconds = seconds_since(start);
  if (calibration && o.kl_tokens > 0)
    add_kl_table(o.common, result.out, calibration->text, o.kl_tokens, [&] {
      if (interrupt.flag)
        fail(Code::kCancelled, "[pack] {}: complete, but for the KL table: --measure {} adds it",
             result.out, result.out);
    });
  print(o, PackFile::open(result.out).index(), result);
}

void measure(const Options& o) {
  const Interrupt interrupt = install_interrupt(false);
  add_kl_table(o.common, o.measure, read_text_file(o.calibration), o.kl_tokens, [&] {
    if (interrupt.flag)
      fail(Code::kCancelled, "[pack] {}: interrupted, it is as it was", o.measure);
  });
  show_pack(o.measure, o.common.json);
}

void verify(const Options& o) {
  const auto start = std::chrono::steady_clock::now();
  const Model m = open_model(o);
  const PackFile pack = PackFile::open(o.verify);
  ExpertGeometry applied = m.experts;
  apply_pack(pack, m.file, *m.backend, applied);
  ThreadPool pool(thread_count(o));
  ProgressBar bar(o.common.quiet);
  const PackDamage damage = verify_pack(
      pack, {m.experts, nullptr, *m.backend, pool, {}},
      [&](uint64_t done, uint64_t total) { bar.update_bytes("checking", done, total); });
  bar.clear();
  if (damage.n_bad > 0)
    fail(Code::kDataLoss,
         "[pack] {}: expected {} sound slabs, {} are damaged, the first: {}; pack the model again",
         o.verify, damage.n_slabs, damage.n_bad, damage.first);
  const double seconds = seconds_since(start);
  if (o.common.json)
    return write_json({{"file", o.verify}, {"slabs", damage.n_slabs}, {"seconds", seconds}});
  write_out(
      fmt::format("{}: all {} slabs are sound; {:.1f} s\n", o.verify, damage.n_slabs, seconds));
}

void run(const Options& o) {
  if (!o.calibration.empty() && (o.no_low || !o.verify.empty()))
    throw UsageError("[usage] --calibration: expected a low copy to make, there is none");
  if (o.bits != 0 && o.no_low)
    throw UsageError("[usage] --low and --no-low: expected at most one of them, got both");
  if (o.no_high && o.no_low)
    throw UsageError("[usage] --no-high and --no-low: expected at most one of them, got both");
  if (!o.measure.empty() && o.calibration.empty())
    throw UsageError("[usage] --measure: expected a text too, --calibration TEXT");
  if (!o.measure.empty()) return measure(o);
  o.verify.empty() ? make(o) : verify(o);
}

}  // namespace

Runner setup_pack(CLI::App& app) {
  auto o = std::make_shared<Options>();
  add_model_argument(app, o->common);
  app.add_option(
      "-o,--out", o->out,
      "the pack; default: MODEL.hobpack, beside the model, where the other commands find "
      "it by themselves (their --pack FILE or --pack none overrides)");
  app.add_option_function<std::string>(
         "--low", [o](const std::string& type) { o->bits = type[1] - '0'; },
         "precision of the low copy: q2, q3 or q4 (bits per weight); default q4 for 16-bit models, "
         "else q2")
      ->check(CLI::IsMember({"q2", "q3", "q4"}));
  app.add_flag("--no-low", o->no_low, "no low copy");
  app.add_flag("--no-high", o->no_high,
               "only a low copy: the original stays in the model file, three reads each");
  app.add_option(
      "--calibration", o->calibration,
      "text file (- = stdin): the model runs over it, and what matters for it is kept more "
      "exactly in the low copy");
  app.add_option("--kl-tokens", o->kl_tokens,
                 "tokens of the calibration text that measure the settings of mixed precision, for "
                 "--max-kl; 0 = none")
      ->check(CLI::Range(0, 1 << 24));
  app.add_option("--memory", o->common.memory,
                 "limit of the calibration run: 2G, 512M, ... or auto");
  app.add_option("--threads", o->common.threads, "compute threads; default all cores")
      ->check(CLI::Range(1, 1024));
  app.add_flag("--force", o->force, "replace a pack that is there");
  CLI::Option* verify_option =
      app.add_option("--verify", o->verify, "check a pack against the model instead of making one");
  app.add_option("--measure", o->measure,
                 "measure the settings of a finished pack with the --calibration text")
      ->excludes(verify_option);
  add_output_options(app, o->common);
  app.footer(
      "An interrupted or killed run leaves FILE.partial; the same command goes on with it.\n"
      "A pack of another model, or a damaged one, is refused; nothing but MODEL is needed to make "
      "it "
      "again.");
  return [o] { run(*o); };
}

}  // namespace hob::app
