// hob: one program, one subcommand per file. This file: the table, the exit codes, the error line.
#include <fmt/format.h>
#include <malloc.h>

#include <clocale>
#include <csignal>
#include <cstdio>
#include <span>

#include "base/error.h"
#include "command.h"
#include "options.h"
#include "output.h"

namespace hob::app {
namespace {

constexpr Command kCommands[] = {
    {"run", "talk to a model: one prompt, or a chat on a terminal", setup_run},
    {"logits", "raw logits of given tokens", setup_logits},
    {"tokenize", "text to token ids and back", setup_tokenize},
    {"perplexity", "how well a model predicts a text; KL against saved logits", setup_perplexity},
    {"bench", "speed of prefill and decode", setup_bench},
    {"plan", "what goes where and how fast it will be, before loading", setup_plan},
    {"pack", "write a model's experts so that one read fetches one, with a low-precision copy",
     setup_pack},
    {"show", "metadata, tensors and experts of a file", setup_show},
    {"convert", "write a folder of Hugging Face files as one GGUF file", setup_convert},
    {"quantize-calibrated", "GPTQ or AWQ: a smaller file from an F16 one and a text",
     setup_quantize_calibrated},
    {"trace", "record a model's routing; replay it, fit a policy, generate one", setup_trace},
    {"serve", "an OpenAI-compatible server for many users of one model", setup_serve},
    {"edge", "drafts here, has a server verify: its model's answers at fewer round trips", setup_edge},
    {"ps", "the servers that run", setup_ps},
    {"stop", "end a server when its requests are finished", setup_stop},
};

// Part of the command line's contract, not built yet: named, so that nobody takes them for typing
// errors.
constexpr const char* kLater[] = {"quantize", "spec-server"};

constexpr int kFailed = 1, kBadUsage = 2;

int report(const char* message, int code) {
  fmt::print(stderr, "hob: {}\n", message);
  return code;
}

int parse_failed(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
  std::string name = "hob";
  for (const CLI::App* used = &app; !used->get_subcommands().empty();) {
    used = used->get_subcommands().back();
    name += " " + used->get_name();
  }
  std::string what = error.what();
  for (char& c : what)
    if (c == '\n') c = ' ';
  return report(fmt::format("[usage] {}; see '{} --help'", what, name).c_str(), kBadUsage);
}

int run_command(const Runner& runner) {
  try {
    runner();
    flush_out();
    return 0;
  } catch (const OutputClosed&) {
    return 0;
  } catch (const UsageError& e) {
    return report(e.what(), kBadUsage);
  } catch (const std::bad_alloc&) {
    return report("[memory] expected more memory, the system has none", kFailed);
  } catch (const std::exception& e) {
    return report(e.what(), kFailed);
  }
}

int real_main(int argc, char** argv) {
  CLI::App app("hob: runs Mixture-of-Experts language models that do not fit in memory", "hob");
  app.set_version_flag("--version", "hob 0.1.0");
  app.require_subcommand(1);
  Runner chosen;
  for (const Command& command : kCommands) {
    CLI::App* sub = app.add_subcommand(command.name, command.help);
    sub->callback([&chosen, runner = command.setup(*sub)] { chosen = runner; });
  }
  for (const char* name : kLater) {
    CLI::App* sub = app.add_subcommand(name, "(not yet)")->group("")->allow_extras();
    sub->callback([&chosen, name] {
      chosen = [name] { refuse_unsupported(std::string("'hob ") + name + "'"); };
    });
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return parse_failed(app, error);
  }
  return run_command(chosen);
}

}  // namespace
}  // namespace hob::app

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe is an error of write(), handled in output.cc
  // The C.UTF-8 locale for line editing only: numbers keep their point whatever the user's locale.
  std::setlocale(LC_CTYPE, "C.UTF-8");
  // Large blocks go straight back to the system when freed, and threads share one arena: memory
  // that malloc keeps would count against --memory.
  mallopt(M_MMAP_THRESHOLD, 128 << 10);
  mallopt(M_ARENA_MAX, 1);
  return hob::app::real_main(argc, argv);
}
