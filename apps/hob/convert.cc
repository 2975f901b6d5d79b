// hob convert DIR OUT.gguf: a folder of Hugging Face files as one GGUF file.
#include "hf/convert.h"

#include <fmt/format.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <map>
#include <memory>

#include "base/error.h"
#include "base/size_parse.h"
#include "command.h"
#include "interrupt.h"
#include "output.h"

namespace hob::app {
namespace {

struct Options {
  std::string dir, out;
  HfOutType type = HfOutType::kAuto;
  bool json = false, quiet = false, force = false;
};

const std::map<std::string, HfOutType> kOutTypes = {{"auto", HfOutType::kAuto},
                                                    {"f32", HfOutType::kF32},
                                                    {"f16", HfOutType::kF16},
                                                    {"bf16", HfOutType::kBF16},
                                                    {"q8_0", HfOutType::kQ8_0}};

void check_output(const Options& o, const HfCheckpoint& checkpoint) {
  std::error_code ignored;
  for (const std::string& file : checkpoint.files())
    if (std::filesystem::equivalent(o.out, file, ignored))
      throw UsageError(
          fmt::format("[usage] out: expected another file than the checkpoint's, got {}", o.out));
  if (!o.force && std::filesystem::exists(o.out, ignored))
    fail(Code::kInvalidArgument,
         "[convert] {}: expected no file of this name, there is one: --force replaces it", o.out);
}

void print(const Options& o, const HfCheckpoint& checkpoint, double seconds) {
  const uint64_t n_bytes = std::filesystem::file_size(o.out);
  if (o.json)
    return write_json({{"file", o.out},
                       {"bytes", n_bytes},
                       {"architecture", checkpoint.metadata().get_string("general.architecture")},
                       {"n_tensors", checkpoint.tensors().size()},
                       {"seconds", seconds}});
  write_out(fmt::format("{}: {}, {} tensors; {:.1f} s\n", o.out, format_size(n_bytes),
                        checkpoint.tensors().size(), seconds));
}

void run(const Options& o) {
  const auto start = std::chrono::steady_clock::now();
  const HfCheckpoint checkpoint = HfCheckpoint::open(o.dir, o.type);
  check_output(o, checkpoint);
  if (checkpoint.unpacked())
    note(o.quiet,
         "hob: note: the quantised layers become f16: GGUF has no type for them as they are; the "
         "folder itself runs without loss");
  std::signal(SIGXFSZ, SIG_IGN);  // a file size limit is an error of write(), like a full disk
  // Patient: a second Ctrl-C must not end the program before the unfinished file is gone.
  const Interrupt interrupt = install_interrupt(true);
  {
    ProgressBar bar(o.quiet);
    write_gguf(checkpoint, o.out, [&](uint64_t done, uint64_t total) {
      if (interrupt.flag)
        fail(Code::kCancelled, "[convert] {}: interrupted, nothing is left", o.out);
      bar.update_bytes("converting", done, total);
    });
  }
  const auto time = std::chrono::steady_clock::now() - start;
  print(o, checkpoint, std::chrono::duration<double>(time).count());
}

}  // namespace

Runner setup_convert(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("dir", o->dir, "folder with config.json and *.safetensors")->required();
  app.add_option("out", o->out, "the GGUF file to write")->required();
  app.add_option("--outtype", o->type,
                 "type of matrices: auto (as they are), f32, f16, bf16, q8_0; vectors are f32")
      ->transform(CLI::CheckedTransformer(kOutTypes).description(""))
      ->type_name("TEXT");
  app.add_flag("--force", o->force, "replace OUT.gguf if it is there");
  app.add_flag("--json", o->json, "one JSON object per line on stdout");
  app.add_flag("--quiet", o->quiet, "no notes and no progress on stderr");
  return [o] { run(*o); };
}

}  // namespace hob::app
